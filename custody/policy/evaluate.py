"""What the policy says about an intent, from values alone. The signer asks itself the same and has the last word.

Deny rules come first; then the first allow rule whose scope and caps hold the intent decides; no rule means no. The only thing
that the signer knows and this copy does not is how much of a velocity window is used. Source: signer/protocol/SPEC.md section 6.
"""

from __future__ import annotations

from collections.abc import Iterable

from custody.policy.model import (
    ANY,
    AllowRule,
    ApprovalPolicy,
    Decision,
    Facts,
    Scope,
    Standing,
    Verdict,
    Word,
)


def evaluate(policy: ApprovalPolicy, facts: Facts, decisions: Iterable[Decision]) -> Verdict:
    """How the policy stands towards the intent, given the decisions so far (each already verified)."""
    given = tuple(decisions)
    known = {person.id for person in policy.approvers}
    if any(each.word is Word.REJECT and each.approver in known for each in given):
        return _without_quorum(Standing.REJECTED, reason="")
    if facts.policy_version != policy.version:
        return _without_quorum(Standing.DENIED, reason="wrong_policy_version")
    for forbidden in policy.deny:
        if _covers(forbidden, facts):
            return _without_quorum(Standing.DENIED, reason="denied_by_rule", rule=forbidden.id)
    covering = [rule for rule in policy.allow if _covers(rule.scope, facts)]
    for rule in covering:
        if _over_cap(rule, facts) is None:
            return _count(policy, rule, facts, given)
    nearest = _over_cap(covering[0], facts) if covering else None
    return _without_quorum(
        Standing.DENIED, reason=nearest or "no_rule", rule=covering[0].scope.id if covering else ""
    )


def _count(policy: ApprovalPolicy, rule: AllowRule, facts: Facts, decisions: tuple[Decision, ...]) -> Verdict:
    members = {person.id for person in policy.approvers if rule.group in person.groups} - {facts.initiator}
    counted = {each.approver for each in decisions if each.word is Word.APPROVE} & members
    missing = max(0, rule.threshold - len(counted))
    return Verdict(
        standing=Standing.PENDING if missing else Standing.APPROVED,
        rule=rule.scope.id,
        reason="",
        group=rule.group,
        threshold=rule.threshold,
        counted=tuple(sorted(counted)),
        missing=missing,
    )


def _covers(scope: Scope, facts: Facts) -> bool:
    pairs = (
        (scope.org, facts.org),
        (scope.vault, facts.vault),
        (scope.chain, facts.chain),
        (scope.kind, facts.kind),
        (scope.asset, facts.asset),
    )
    if any(wanted not in {ANY, found} for wanted, found in pairs):
        return False
    return scope.destinations == (ANY,) or facts.destination in scope.destinations


def _over_cap(rule: AllowRule, facts: Facts) -> str | None:
    """The code of the cap that the intent exceeds under this rule."""
    if facts.amount > rule.amount_max:
        return "over_amount_cap"
    if facts.fee_max > rule.fee_max:
        return "over_fee_cap"
    if any(facts.amount > window.amount_max for window in rule.windows):
        return "over_velocity"
    return None


def _without_quorum(standing: Standing, *, reason: str, rule: str = "") -> Verdict:
    return Verdict(standing=standing, rule=rule, reason=reason, group="", threshold=0, counted=(), missing=0)
