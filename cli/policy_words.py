"""A policy in words, one line per statement, so that two policies can be laid side by side. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from datetime import UTC, datetime

from signer.policy.document import Policy
from signer.policy.groups import Demand
from signer.policy.rules import ANY, AllowRule, Scope
from signer.protocol.approver_keys import ApproverKey, Ed25519Key, P256Key, Passkey
from signer.protocol.messages import Explained


def describe(policy: Policy) -> list[str]:
    """Everything that the policy says, in its own order."""
    return list(_lines(policy))


def compare(current: Policy, new: Policy) -> list[str]:
    """What goes ("- ") and what comes ("+ ") between two policies; empty when they say the same."""
    changed = difflib.ndiff(describe(current), describe(new))
    return [line for line in changed if line[:2] in ("- ", "+ ")]


def moment(at: int) -> str:
    """Unix seconds as people read them."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def explain(told: Explained) -> list[str]:
    """The signer's answer: which rule decides, who is missing, until when it waits, or what is in the way."""
    if told.verdict == "deny":
        lines = [f"refused: {told.code}" + (f" (rule {told.rule})" if told.rule else "")]
        if told.nearest:
            lines.append(f"rule {told.nearest} comes nearest; in its way: {', '.join(told.obstacles)}")
        return lines
    lines = [f"rule {told.rule} decides"]
    for each in told.groups:
        given = ", ".join(each.counted) or "nobody"
        missing = each.threshold - len(each.counted)
        lines.append(f"group {each.group}: {given} of {each.threshold} wanted, {missing} missing")
    if not told.groups:
        lines.append("nobody is asked")
    if told.ready_at:
        lines.append(f"cooling down until {moment(told.ready_at)}; a veto still ends it")
    elif told.cool_down_s:
        lines.append(f"after the quorum it waits {told.cool_down_s} seconds")
    lines.append("it would be carried out now" if told.verdict == "allow" else f"it waits: {told.code}")
    return lines


def _lines(policy: Policy) -> Iterator[str]:
    yield f"version {policy.version}"
    yield f"approver set {policy.approver_set_version}"
    for chain, passphrase in sorted(policy.networks.items()):
        yield f'network {chain} is "{passphrase}"'
    for person in sorted(policy.approvers.values(), key=lambda one: one.id):
        keys = ", ".join(map(_key, person.keys))
        yield f"approver {person.id} of {', '.join(sorted(person.groups))}, keys {keys}"
    for name, entries in sorted(policy.address_book.items()):
        yield f"address list {name}"
        for one in entries:
            yield f"  {name} holds {one.address} on {one.chain} ({one.label})"
    for each in sorted(policy.cosigned, key=lambda one: (one.chain, one.account)):
        yield f"key {each.key} signs with others for {each.account} on {each.chain}"
    quorum = _demands(policy.governance.approvals)
    yield f"a change of the policy needs {quorum}, then waits {policy.governance.cool_down_s} seconds"
    for rule in policy.deny:
        yield f"deny {rule.id}: {_scope(rule.scope)}"
    for number, allow in enumerate(policy.allow, 1):
        yield f"allow {number}. {allow.id}: {_scope(allow.scope)}; {_terms(allow)}"


def _scope(scope: Scope) -> str:
    named = (("org", scope.org), ("vault", scope.vault), ("key", scope.key), ("chain", scope.chain))
    where = [f"{name} {value}" for name, value in named if value != ANY]
    to = "anywhere" if scope.destinations == (ANY,) else ", ".join(scope.destinations)
    what = f"{_any(scope.kind, 'kind')} of {_any(scope.asset, 'asset')}"
    return f"{what}, {', '.join(where) or 'everywhere'}, to {to}"


def _terms(rule: AllowRule) -> str:
    terms = [f"at most {rule.amount_max} atomic units and {rule.fee_max} of fee"]
    terms += [
        f"at most {one.amount_max} units and {one.count_max} intents in {one.seconds} seconds"
        for one in rule.windows
    ]
    terms += [f"{' '.join(one.days)} {one.start}-{one.end} UTC" for one in rule.hours]
    terms.append(_demands(rule.approvals) if rule.approvals else "asks NOBODY")
    if rule.cool_down_s:
        terms.append(f"then waits {rule.cool_down_s} seconds")
    return "; ".join(terms)


def _demands(demands: tuple[Demand, ...]) -> str:
    return " and ".join(f"{one.threshold} of {one.group}" for one in demands)


def _any(value: str, name: str) -> str:
    return f"any {name}" if value == ANY else value


def _key(key: ApproverKey) -> str:
    match key:
        case Passkey():
            where = "on one device" if key.device_bound else "wherever it is synced"
            named = f"passkey {key.credential_id} ({key.algorithm} {key.public_key})"
            return f"{named} at {' '.join(key.origins)} for {key.rp_id}, {where}"
        case P256Key():
            return f"p256 {key.public_key}"
        case Ed25519Key():
            return f"ed25519 {key.public_key}"
