"""Which rule decides about an intent: deny first, then the first allow rule that holds it, else no."""

from collections.abc import Callable
from dataclasses import dataclass

from signer.effects import amount_of, fee_cap_of, moved_by
from signer.policy.document import Policy
from signer.policy.rules import AllowRule
from signer.protocol.intent import Intent

Spent = Callable[[int], int]
"""Atomic units already bound for the intent's org, vault, chain and asset within the last given seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the rules say."""

    verdict: str
    """"allow", "wait" or "deny"."""
    code: str
    """"ok", "quorum_missing" or the refusal code."""
    rule: str
    group: str
    threshold: int
    counted: tuple[str, ...]
    missing: int


def rule_on(policy: Policy, intent: Intent, approved: frozenset[str], spent: Spent) -> Ruling:
    """Return the ruling on an intent that `approved` people approve."""
    for deny in policy.deny:
        if deny.scope.covers(intent):
            return denied("denied_by_rule", deny.id)
    nearest = denied("no_rule", "")
    for allow in policy.allow:
        if not allow.covers(intent):
            continue
        obstacle = _obstacle(allow, intent, spent)
        if obstacle == "":
            return _count(policy, allow, approved)
        nearest = denied(obstacle, allow.id)
    return nearest


def denied(code: str, rule: str) -> Ruling:
    """Return the ruling that refuses with this code; `rule` is "" when no rule speaks."""
    return Ruling(verdict="deny", code=code, rule=rule, group="", threshold=0, counted=(), missing=0)


def _obstacle(rule: AllowRule, intent: Intent, spent: Spent) -> str:
    """Return the cap of the rule that the intent exceeds, or "" for none."""
    if amount_of(intent) > rule.amount_max:
        return "over_amount_cap"
    if fee_cap_of(intent) > rule.fee_max:
        return "over_fee_cap"
    for window in rule.windows:
        if spent(window.seconds) + moved_by(intent) > window.amount_max:
            return "over_velocity"
    return ""


def _count(policy: Policy, rule: AllowRule, approved: frozenset[str]) -> Ruling:
    counted = tuple(sorted(name for name in approved if rule.group in policy.approvers[name].groups))
    missing = max(0, rule.threshold - len(counted))
    return Ruling(
        verdict="wait" if missing else "allow",
        code="quorum_missing" if missing else "ok",
        rule=rule.id,
        group=rule.group,
        threshold=rule.threshold,
        counted=counted,
        missing=missing,
    )
