"""The rules of the policy: whom each speaks about, what it caps, and whom it asks."""

from dataclasses import dataclass
from typing import Any

from signer.effects import INTO_VAULT
from signer.policy.addresses import LIST_MARK, AddressBook, is_listed
from signer.policy.effect import Effect
from signer.policy.groups import Demand, parse_demands
from signer.policy.hours import Hours, parse_hours
from signer.policy.reading import (
    atomic_of,
    integer_of,
    list_of,
    name_of,
    record_of,
    seconds_of,
    texts_of,
    word_of,
    wrong,
)
from signer.protocol.canonical import KINDS
from signer.protocol.governance import KEY_KINDS

ANY = "*"
RULED_KINDS = (*KINDS, *KEY_KINDS)
"""What rules may speak about: all that becomes a transaction or a message, and what is done to keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which effects a rule speaks about. "*" means any."""

    org: str
    vault: str
    key: str
    chain: str
    kind: str
    asset: str
    destinations: tuple[str, ...]
    """Addresses, "@name" of a list in the address book, "vault:NAME" of the own org, or only "*"."""

    def misses(self, effect: Effect, book: AddressBook) -> tuple[str, ...]:
        """Return the names of the fields by which the rule does not speak about this effect; none when it does."""
        pairs = (
            ("org", self.org, effect.org),
            ("vault", self.vault, effect.vault),
            ("key", self.key, effect.key),
            ("chain", self.chain, effect.chain),
            ("kind", self.kind, effect.kind),
            ("asset", self.asset, effect.asset),
        )
        missed = [name for name, wanted, found in pairs if wanted not in (ANY, found)]
        if self.destinations != (ANY,) and not any(
            is_listed(book, wanted, effect.chain, name)
            for wanted in self.destinations
            for name in effect.destinations
        ):
            missed.append("destinations")
        return tuple(missed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """At most `amount_max` atomic units and `count_max` intents within any `seconds`."""

    seconds: int
    amount_max: int
    count_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyRule:
    """Anything in scope is refused, whoever approves."""

    id: str
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowRule:
    """What is in scope and within the caps may happen once every demand for approvals is met."""

    id: str
    scope: Scope
    amount_max: int
    fee_max: int
    windows: tuple[Window, ...]
    hours: tuple[Hours, ...]
    """Empty for always."""
    approvals: tuple[Demand, ...]
    """All have to be met; empty for an automatic rule, which asks nobody."""
    cool_down_s: int
    """Seconds between the complete quorum and the signature."""

    @property
    def is_automatic(self) -> bool:
        """Whether no human is asked."""
        return not self.approvals

    def misses(self, effect: Effect, book: AddressBook) -> tuple[str, ...]:
        """As `Scope.misses`; "*" does not stretch to what no amount can bound."""
        missed = self.scope.misses(effect, book)
        if effect.needs_own_rule and self.scope.kind == ANY:
            missed = ("kind", *missed)
        if effect.needs_listed_destination and self.scope.destinations == (ANY,):
            missed = (*missed, "destinations")
        return missed


_SCOPE = {"id", "org", "vault", "key", "chain", "kind", "asset", "destinations"}
_ALLOW = _SCOPE | {"amount_max", "fee_max", "windows", "hours", "approvals", "cool_down_s"}


def parse_deny(value: object) -> DenyRule:
    """Return a deny rule; raises StartupFault."""
    record = record_of(value, _SCOPE, "a deny rule")
    name = name_of(record["id"], "rule id")
    return DenyRule(id=name, scope=_parse_scope(record, name))


def parse_allow(value: object) -> AllowRule:
    """Return an allow rule; raises StartupFault."""
    record = record_of(value, _ALLOW, "an allow rule")
    name = name_of(record["id"], "rule id")
    windows = tuple(_parse_window(window, name) for window in list_of(record["windows"], f"{name}.windows"))
    rule = AllowRule(
        id=name,
        scope=_parse_scope(record, name),
        amount_max=atomic_of(record["amount_max"], f"{name}.amount_max"),
        fee_max=atomic_of(record["fee_max"], f"{name}.fee_max"),
        windows=windows,
        hours=tuple(parse_hours(one, f"{name}.hours") for one in list_of(record["hours"], f"{name}.hours")),
        approvals=parse_demands(record["approvals"], f"{name}.approvals"),
        cool_down_s=seconds_of(record["cool_down_s"], f"{name}.cool_down_s"),
    )
    _check(rule)
    return rule


def _check(rule: AllowRule) -> None:
    scope = rule.scope
    if rule.windows and ANY in (scope.asset, scope.chain):
        raise wrong(f"{rule.id}: a rule with windows names one chain and one asset")
    by_address = [
        one for one in scope.destinations if one != ANY and not one.startswith((LIST_MARK, INTO_VAULT))
    ]
    if by_address and scope.chain == ANY:
        # One EVM address is an address on every EVM chain, and may be nobody's on another.
        raise wrong(f"{rule.id}: an allow rule that lists addresses names one chain")
    if not rule.is_automatic:
        return
    if not rule.windows or ANY in (scope.kind, scope.chain, scope.asset):
        raise wrong(f"{rule.id}: a rule that asks nobody names kind, chain and asset and has a window")
    if rule.cool_down_s:
        raise wrong(f"{rule.id}: a rule that asks nobody has no quorum to cool down after")


def _parse_scope(record: dict[str, Any], place: str) -> Scope:
    scope = Scope(
        org=word_of(record["org"], f"{place}.org"),
        vault=word_of(record["vault"], f"{place}.vault"),
        key=word_of(record["key"], f"{place}.key"),
        chain=word_of(record["chain"], f"{place}.chain"),
        kind=word_of(record["kind"], f"{place}.kind"),
        asset=word_of(record["asset"], f"{place}.asset"),
        destinations=texts_of(record["destinations"], f"{place}.destinations", word_of),
    )
    if scope.kind not in (ANY, *RULED_KINDS):
        raise wrong(f"{place}.kind is not known")
    if ANY in scope.destinations and scope.destinations != (ANY,):
        raise wrong(f'{place}.destinations must be addresses or only "*"')
    return scope


def _parse_window(value: object, name: str) -> Window:
    record = record_of(value, {"seconds", "amount_max", "count_max"}, f"{name}.windows")
    return Window(
        seconds=integer_of(record["seconds"], f"{name}.windows.seconds"),
        amount_max=atomic_of(record["amount_max"], f"{name}.windows.amount_max"),
        count_max=integer_of(record["count_max"], f"{name}.windows.count_max"),
    )
