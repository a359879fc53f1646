"""Which rule decides about an effect: deny first, then the first allow rule that holds it, else no."""

from collections.abc import Callable
from dataclasses import dataclass

from signer.policy.document import Policy
from signer.policy.effect import Effect
from signer.policy.groups import Count, seat
from signer.policy.rules import AllowRule

Spent = Callable[[AllowRule, int], tuple[int, int]]
"""Atomic units and intents already bound within the last given seconds, as far as they count for the rule: for a rule that asks
people everything of the effect's org, vault, chain and asset, for one that asks nobody all that this rule has let through.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What the rules say."""

    verdict: str
    """"allow", "wait" or "deny"."""
    code: str
    """"ok", "quorum_missing", "cooling_down" or the refusal code."""
    rule: str
    """The rule that decides; of a denial the one that forbids it or covers it and is exceeded; "" for none."""
    nearest: str = ""
    """Of a denial: the allow rule that comes nearest; "" for none."""
    obstacles: tuple[str, ...] = ()
    """What keeps the nearest rule from holding: names of its fields, or one code."""
    counts: tuple[Count, ...] = ()
    cool_down_s: int = 0
    ready_at: int = 0
    """Unix second at which the cool-down ends; 0 when none runs."""

    @property
    def missing(self) -> int:
        """People still missing, over all groups."""
        return sum(count.missing for count in self.counts)


def rule_on(policy: Policy, effect: Effect, approved: frozenset[str], spent: Spent, now: int) -> Ruling:
    """Return the ruling at unix second `now` on an effect that `approved` people approve."""
    for deny in policy.deny:
        if not deny.scope.misses(effect, policy.address_book):
            return denied("denied_by_rule", deny.id)
    exceeded = None
    for allow in policy.allow:
        if allow.misses(effect, policy.address_book):
            continue
        obstacle = _obstacle(allow, effect, spent, now)
        if obstacle == "":
            return _count(policy, allow, approved)
        exceeded = Ruling(
            verdict="deny", code=obstacle, rule=allow.id, nearest=allow.id, obstacles=(obstacle,)
        )
    return exceeded or _nearest(policy, effect)


def denied(code: str, rule: str) -> Ruling:
    """Return the ruling that refuses with this code; `rule` is "" when no rule speaks."""
    return Ruling(verdict="deny", code=code, rule=rule)


def _nearest(policy: Policy, effect: Effect) -> Ruling:
    """Return the denial that no rule covers the effect, with the rule that misses it in the fewest fields."""
    missed = [(allow.misses(effect, policy.address_book), allow.id) for allow in policy.allow]
    if not missed:
        return denied("no_rule", "")
    obstacles, rule = min(missed, key=lambda one: len(one[0]))
    return Ruling(verdict="deny", code="no_rule", rule="", nearest=rule, obstacles=obstacles)


def _obstacle(rule: AllowRule, effect: Effect, spent: Spent, now: int) -> str:
    """Return the cap of the rule that the effect exceeds, or "" for none."""
    if effect.amount > rule.amount_max:
        return "over_amount_cap"
    if effect.fee_cap > rule.fee_max:
        return "over_fee_cap"
    if rule.hours and not any(one.hold(now) for one in rule.hours):
        return "outside_hours"
    for window in rule.windows:
        amount, count = spent(rule, window.seconds)
        if amount + effect.moved > window.amount_max or count + 1 > window.count_max:
            return "over_velocity"
    return ""


def _count(policy: Policy, rule: AllowRule, approved: frozenset[str]) -> Ruling:
    counts = seat(rule.approvals, {name: policy.approvers[name].groups for name in approved})
    missing = any(count.missing for count in counts)
    return Ruling(
        verdict="wait" if missing else "allow",
        code="quorum_missing" if missing else "ok",
        rule=rule.id,
        counts=counts,
        cool_down_s=rule.cool_down_s,
    )
