"""The policy document: networks, approvers, addresses, accounts signed for with others, rules, and who may change it.

Read strictly; nothing in it is optional (SPEC.md section 6).
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from signer.policy.addresses import LIST_MARK, AddressBook, parse_book
from signer.policy.approvers import Approver, check_approvers, parse_approver
from signer.policy.cosigned import Cosigned, parse_cosigned
from signer.policy.groups import Demand, check_reachable, parse_demands
from signer.policy.reading import integer_of, list_of, record_of, seconds_of, text_of, word_of, wrong
from signer.policy.rules import AllowRule, DenyRule, parse_allow, parse_deny
from signer.protocol.wire import MalformedMessage, check_nesting

FORMAT = "custody-policy-v1"
DOCUMENT_MAX = 65_536
"""Longest document in bytes: it travels in one message (wire.FRAME_MAX) and stands in one journal entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """Who may change the policy itself, and how long a change waits for a veto."""

    approvals: tuple[Demand, ...]
    """All have to be met; never empty."""
    cool_down_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The whole document and its hash."""

    version: int
    approver_set_version: int
    hash: bytes
    networks: dict[str, str]
    """Stellar chain name to network passphrase."""
    approvers: dict[str, Approver]
    address_book: AddressBook
    cosigned: frozenset[Cosigned]
    """What keys of ours sign for, beside their own addresses."""
    governance: Governance
    deny: tuple[DenyRule, ...]
    allow: tuple[AllowRule, ...]


def parse_policy(data: bytes) -> Policy:
    """Return the policy in these bytes; raises StartupFault with the place that is wrong."""
    document = _document(data)
    networks = {
        word_of(name, "network"): text_of(value, name) for name, value in document["networks"].items()
    }
    if len(set(networks.values())) != len(networks):
        raise wrong("networks: one passphrase has two names")
    approvers = [parse_approver(value) for value in list_of(document["approvers"], "approvers")]
    check_approvers(approvers)
    policy = Policy(
        version=integer_of(document["version"], "version"),
        approver_set_version=integer_of(document["approver_set_version"], "approver_set_version"),
        hash=hashlib.sha256(data).digest(),
        networks=networks,
        approvers={approver.id: approver for approver in approvers},
        address_book=parse_book(document["address_book"]),
        cosigned=parse_cosigned(document["cosigned"]),
        governance=_parse_governance(document["governance"]),
        deny=tuple(parse_deny(value) for value in list_of(document["deny"], "deny")),
        allow=tuple(parse_allow(value) for value in list_of(document["allow"], "allow")),
    )
    _check_rules(policy)
    return policy


def _document(data: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise wrong("a field is repeated")
        return dict(pairs)

    def refuse(text: str) -> Any:
        raise wrong(f"{text} is not an integer")

    if len(data) > DOCUMENT_MAX:
        raise wrong(f"it is longer than {DOCUMENT_MAX} bytes")
    try:
        text = data.decode("ascii")
        check_nesting(text)
        value = json.loads(text, object_pairs_hook=unique, parse_float=refuse, parse_constant=refuse)
    except (ValueError, MalformedMessage) as error:
        raise wrong("it is not JSON") from error
    document = record_of(value, _NAMES, "the document")
    if document["format"] != FORMAT or not isinstance(document["networks"], dict):
        raise wrong(f'format must be "{FORMAT}" and networks an object')
    return document


_NAMES = {
    "format",
    "version",
    "approver_set_version",
    "networks",
    "approvers",
    "address_book",
    "cosigned",
    "governance",
    "deny",
    "allow",
}


def _parse_governance(value: object) -> Governance:
    record = record_of(value, {"approvals", "cool_down_s"}, "governance")
    governance = Governance(
        approvals=parse_demands(record["approvals"], "governance.approvals"),
        cool_down_s=seconds_of(record["cool_down_s"], "governance.cool_down_s"),
    )
    if not governance.approvals:
        raise wrong("governance.approvals: somebody has to approve a change of the policy")
    return governance


def _check_rules(policy: Policy) -> None:
    names = [rule.id for rule in policy.deny] + [rule.id for rule in policy.allow]
    if len(set(names)) != len(names):
        raise wrong("two rules have one id")
    people = {one.id: one.groups for one in policy.approvers.values()}
    check_reachable(policy.governance.approvals, people, "governance")
    for rule in policy.allow:
        check_reachable(rule.approvals, people, rule.id)
    scopes = {rule.id: rule.scope for rule in policy.deny} | {rule.id: rule.scope for rule in policy.allow}
    for name, scope in scopes.items():
        for wanted in scope.destinations:
            if wanted.startswith(LIST_MARK) and wanted[len(LIST_MARK) :] not in policy.address_book:
                raise wrong(f"{name}: the address book has no list {wanted}")
