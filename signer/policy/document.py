"""The policy document: networks, approvers, rules. Read strictly; nothing in it is optional (SPEC.md section 6)."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from signer.policy.approvers import Approver, check_approvers, parse_approver
from signer.policy.reading import integer_of, list_of, record_of, text_of, wrong
from signer.policy.rules import AllowRule, DenyRule, parse_allow, parse_deny
from signer.protocol.wire import MalformedMessage, check_nesting

FORMAT = "custody-policy-v1"


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


def parse_policy(data: bytes) -> Policy:
    """Return the policy in these bytes; raises StartupFault with the place that is wrong."""
    document = _document(data)
    networks = {name: text_of(value, name) for name, value in document["networks"].items()}
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

    try:
        text = data.decode("ascii")
        check_nesting(text)
        value = json.loads(text, object_pairs_hook=unique, parse_float=refuse, parse_constant=refuse)
    except (ValueError, MalformedMessage) as error:
        raise wrong("it is not JSON") from error
    names = {"format", "version", "approver_set_version", "networks", "approvers", "deny", "allow"}
    document = record_of(value, names, "the document")
    if document["format"] != FORMAT or not isinstance(document["networks"], dict):
        raise wrong(f'format must be "{FORMAT}" and networks an object')
    return document


def _check_rules(policy: Policy) -> None:
    names = [rule.id for rule in policy.deny] + [rule.id for rule in policy.allow]
    if len(set(names)) != len(names):
        raise wrong("two rules have one id")
    for rule in policy.allow:
        members = [one for one in policy.approvers.values() if rule.group in one.groups]
        if rule.threshold > len(members):
            raise wrong(f"{rule.id}: the group {rule.group} has fewer people than the threshold")
