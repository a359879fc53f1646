"""The rules of the policy: whom each speaks about, and what it caps."""

from dataclasses import dataclass
from typing import Any

from signer.effects import asset_of, destinations_of, needs_listed_destination, needs_own_rule
from signer.policy.reading import atomic_of, integer_of, list_of, name_of, record_of, text_of, texts_of, wrong
from signer.protocol.canonical import KINDS, kind_of
from signer.protocol.intent import Intent

ANY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which intents a rule speaks about. "*" means any."""

    org: str
    vault: str
    chain: str
    kind: str
    asset: str
    destinations: tuple[str, ...]

    def covers(self, intent: Intent) -> bool:
        """Tell whether the rule speaks about this intent."""
        return (
            self.org in (ANY, intent.org)
            and self.vault in (ANY, intent.vault)
            and self.chain in (ANY, intent.chain)
            and self.kind in (ANY, kind_of(intent))
            and self.asset in (ANY, asset_of(intent))
            and (
                self.destinations == (ANY,)
                or any(name in self.destinations for name in destinations_of(intent))
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """At most `amount_max` atomic units within any `seconds`."""

    seconds: int
    amount_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyRule:
    """Any intent in scope is refused, whoever approves."""

    id: str
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowRule:
    """Intents in scope and within the caps are signed when `threshold` people of `group` approve."""

    id: str
    scope: Scope
    amount_max: int
    fee_max: int
    windows: tuple[Window, ...]
    group: str
    threshold: int

    def covers(self, intent: Intent) -> bool:
        """Tell whether the rule speaks about this intent; "*" does not stretch to what no amount can bound."""
        return (
            self.scope.covers(intent)
            and not (needs_own_rule(intent) and self.scope.kind == ANY)
            and not (needs_listed_destination(intent) and self.scope.destinations == (ANY,))
        )


_SCOPE = {"id", "org", "vault", "chain", "kind", "asset", "destinations"}


def _parse_scope(record: dict[str, Any], place: str) -> Scope:
    scope = Scope(
        org=text_of(record["org"], f"{place}.org"),
        vault=text_of(record["vault"], f"{place}.vault"),
        chain=text_of(record["chain"], f"{place}.chain"),
        kind=text_of(record["kind"], f"{place}.kind"),
        asset=text_of(record["asset"], f"{place}.asset"),
        destinations=texts_of(record["destinations"], f"{place}.destinations", text_of),
    )
    if scope.kind not in (ANY, *KINDS):
        raise wrong(f"{place}.kind is not known")
    if ANY in scope.destinations and scope.destinations != (ANY,):
        raise wrong(f'{place}.destinations must be addresses or only "*"')
    return scope


def parse_deny(value: object) -> DenyRule:
    record = record_of(value, _SCOPE, "a deny rule")
    name = name_of(record["id"], "rule id")
    return DenyRule(id=name, scope=_parse_scope(record, name))


def parse_allow(value: object) -> AllowRule:
    names = _SCOPE | {"amount_max", "fee_max", "windows", "group", "threshold"}
    record = record_of(value, names, "an allow rule")
    name = name_of(record["id"], "rule id")
    scope = _parse_scope(record, name)
    windows = [_parse_window(window, name) for window in list_of(record["windows"], f"{name}.windows")]
    if windows and ANY in (scope.asset, scope.chain):
        raise wrong(f"{name}: a rule with windows names one chain and one asset")
    return AllowRule(
        id=name,
        scope=scope,
        amount_max=atomic_of(record["amount_max"], f"{name}.amount_max"),
        fee_max=atomic_of(record["fee_max"], f"{name}.fee_max"),
        windows=tuple(windows),
        group=name_of(record["group"], f"{name}.group"),
        threshold=integer_of(record["threshold"], f"{name}.threshold"),
    )


def _parse_window(value: object, name: str) -> Window:
    record = record_of(value, {"seconds", "amount_max"}, f"{name}.windows")
    return Window(
        seconds=integer_of(record["seconds"], f"{name}.windows.seconds"),
        amount_max=atomic_of(record["amount_max"], f"{name}.windows.amount_max"),
    )
