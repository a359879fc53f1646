"""The policy document: networks, approvers, rules. Read once, strictly; nothing in it is optional (SPEC.md
section 6).
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from signer.points import is_public_key
from signer.protocol.canonical import kind_of
from signer.protocol.intent import (
    EvmErc20Transfer,
    EvmTransfer,
    Intent,
    StellarAnchor,
    StellarChangeTrust,
    StellarPayment,
)
from signer.protocol.wire import MalformedMessage, check_nesting
from signer.refusal import StartupFault

FORMAT = "custody-policy-v1"
ANY = "*"
KINDS = ("stellar_payment", "stellar_change_trust", "stellar_anchor", "evm_transfer", "evm_erc20_transfer")
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
_HEX32 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """One person who may decide, with all keys of that person."""

    id: str
    keys: tuple[str, ...]
    groups: tuple[str, ...]


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
            and (self.destinations == (ANY,) or destination_of(intent) in self.destinations)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The whole document and its hash."""

    version: int
    approver_set_version: int
    hash: bytes
    networks: dict[str, str]
    """Stellar chain name to network passphrase."""
    approvers: dict[str, Approver]
    deny: tuple[DenyRule, ...]
    allow: tuple[AllowRule, ...]


def asset_of(intent: Intent) -> str:
    """Return the asset that a rule speaks about: "native", "CODE:ISSUER" or a token's address."""
    if isinstance(intent, StellarPayment | StellarChangeTrust):
        return intent.asset
    return intent.token if isinstance(intent, EvmErc20Transfer) else "native"


def destination_of(intent: Intent) -> str:
    """Return who receives; for a trustline the issuer that is trusted, for an anchor its own source."""
    if isinstance(intent, StellarAnchor):
        return intent.source
    if isinstance(intent, StellarChangeTrust):
        return intent.asset.partition(":")[2]
    return intent.destination


def amount_of(intent: Intent) -> int:
    """Return the amount that caps speak about; for a trustline its limit, for an anchor nothing."""
    if isinstance(intent, StellarAnchor):
        return 0
    return intent.limit if isinstance(intent, StellarChangeTrust) else intent.amount


def moved_by(intent: Intent) -> int:
    """Return the amount that velocity counts; a trustline and an anchor move nothing."""
    return 0 if isinstance(intent, StellarChangeTrust | StellarAnchor) else intent.amount


def fee_cap_of(intent: Intent) -> int:
    """Return the most that the transaction may cost, in the chain's native atomic units."""
    if isinstance(intent, EvmTransfer | EvmErc20Transfer):
        return intent.gas_limit * intent.max_fee_per_gas
    return intent.max_fee


def parse_policy(data: bytes) -> Policy:
    """Return the policy in these bytes; raises StartupFault with the place that is wrong."""
    document = _document(data)
    networks = {name: _text(value, name) for name, value in document["networks"].items()}
    if len(set(networks.values())) != len(networks):
        raise _wrong("networks: one passphrase has two names")
    approvers = [_parse_approver(value) for value in _list(document["approvers"], "approvers")]
    _check_approvers(approvers)
    policy = Policy(
        version=_integer(document["version"], "version"),
        approver_set_version=_integer(document["approver_set_version"], "approver_set_version"),
        hash=hashlib.sha256(data).digest(),
        networks=networks,
        approvers={approver.id: approver for approver in approvers},
        deny=tuple(_parse_deny(value) for value in _list(document["deny"], "deny")),
        allow=tuple(_parse_allow(value) for value in _list(document["allow"], "allow")),
    )
    _check_rules(policy)
    return policy


def _wrong(what: str) -> StartupFault:
    return StartupFault(f"the policy file is not valid: {what}")


def _document(data: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise _wrong("a field is repeated")
        return dict(pairs)

    def refuse(text: str) -> Any:
        raise _wrong(f"{text} is not an integer")

    try:
        text = data.decode("ascii")
        check_nesting(text)
        value = json.loads(text, object_pairs_hook=unique, parse_float=refuse, parse_constant=refuse)
    except (ValueError, MalformedMessage) as error:
        raise _wrong("it is not JSON") from error
    names = {"format", "version", "approver_set_version", "networks", "approvers", "deny", "allow"}
    document = _record(value, names, "the document")
    if document["format"] != FORMAT or not isinstance(document["networks"], dict):
        raise _wrong(f'format must be "{FORMAT}" and networks an object')
    return document


def _record(value: object, names: set[str], place: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != names:
        raise _wrong(f"{place} must have exactly the fields {', '.join(sorted(names))}")
    return value


def _list(value: object, place: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(f"{place} must be a list")
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(f"{place} must be a string")
    return value


def _name(value: object, place: str) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise _wrong(f"{place} must be a short name")
    return value


def _integer(value: object, place: str) -> int:
    if type(value) is not int or not 1 <= value < 2**31:
        raise _wrong(f"{place} must be an integer of at least 1")
    return value


def _atomic(value: object, place: str) -> int:
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        raise _wrong(f"{place} must be a decimal string of atomic units")
    return int(value)


def _texts(value: object, place: str, parse: Callable[[object, str], str]) -> tuple[str, ...]:
    items = tuple(parse(item, place) for item in _list(value, place))
    if not items or len(set(items)) != len(items):
        raise _wrong(f"{place} must not be empty or repeat itself")
    return items


def _key(value: object, place: str) -> str:
    if not isinstance(value, str) or not _HEX32.fullmatch(value) or not is_public_key(bytes.fromhex(value)):
        raise _wrong(f"{place} must be Ed25519 public keys in hex")
    return value


def _parse_approver(value: object) -> Approver:
    record = _record(value, {"id", "keys", "groups"}, "an approver")
    return Approver(
        id=_name(record["id"], "approver id"),
        keys=_texts(record["keys"], "approver keys", _key),
        groups=_texts(record["groups"], "approver groups", _name),
    )


def _check_approvers(approvers: list[Approver]) -> None:
    if len({approver.id for approver in approvers}) != len(approvers):
        raise _wrong("two approvers have one id")
    keys = [key for approver in approvers for key in approver.keys]
    if len(set(keys)) != len(keys):
        raise _wrong("two approvers share a key")


_SCOPE = {"id", "org", "vault", "chain", "kind", "asset", "destinations"}


def _parse_scope(record: dict[str, Any], place: str) -> Scope:
    scope = Scope(
        org=_text(record["org"], f"{place}.org"),
        vault=_text(record["vault"], f"{place}.vault"),
        chain=_text(record["chain"], f"{place}.chain"),
        kind=_text(record["kind"], f"{place}.kind"),
        asset=_text(record["asset"], f"{place}.asset"),
        destinations=_texts(record["destinations"], f"{place}.destinations", _text),
    )
    if scope.kind not in (ANY, *KINDS):
        raise _wrong(f"{place}.kind is not known")
    if ANY in scope.destinations and scope.destinations != (ANY,):
        raise _wrong(f'{place}.destinations must be addresses or only "*"')
    return scope


def _parse_deny(value: object) -> DenyRule:
    record = _record(value, _SCOPE, "a deny rule")
    name = _name(record["id"], "rule id")
    return DenyRule(id=name, scope=_parse_scope(record, name))


def _parse_allow(value: object) -> AllowRule:
    names = _SCOPE | {"amount_max", "fee_max", "windows", "group", "threshold"}
    record = _record(value, names, "an allow rule")
    name = _name(record["id"], "rule id")
    scope = _parse_scope(record, name)
    windows = [_parse_window(window, name) for window in _list(record["windows"], f"{name}.windows")]
    if windows and ANY in (scope.asset, scope.chain):
        raise _wrong(f"{name}: a rule with windows names one chain and one asset")
    return AllowRule(
        id=name,
        scope=scope,
        amount_max=_atomic(record["amount_max"], f"{name}.amount_max"),
        fee_max=_atomic(record["fee_max"], f"{name}.fee_max"),
        windows=tuple(windows),
        group=_name(record["group"], f"{name}.group"),
        threshold=_integer(record["threshold"], f"{name}.threshold"),
    )


def _parse_window(value: object, name: str) -> Window:
    record = _record(value, {"seconds", "amount_max"}, f"{name}.windows")
    return Window(
        seconds=_integer(record["seconds"], f"{name}.windows.seconds"),
        amount_max=_atomic(record["amount_max"], f"{name}.windows.amount_max"),
    )


def _check_rules(policy: Policy) -> None:
    names = [rule.id for rule in policy.deny] + [rule.id for rule in policy.allow]
    if len(set(names)) != len(names):
        raise _wrong("two rules have one id")
    for rule in policy.allow:
        members = [one for one in policy.approvers.values() if rule.group in one.groups]
        if rule.threshold > len(members):
            raise _wrong(f"{rule.id}: the group {rule.group} has fewer people than the threshold")
