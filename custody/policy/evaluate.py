"""What the policy says about an intent, from values alone. The signer asks itself the same and has the last word.

Deny rules come first; then the first allow rule whose scope and caps hold the intent decides; no rule means no. What the signer
knows and this copy does not: how much of a velocity window is used, whether a rule is open at the moment of signing, and whether
its cool-down has passed. Source: signer/protocol/SPEC.md section 6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from custody.policy.model import (
    ANY,
    AllowRule,
    ApprovalPolicy,
    Count,
    Decision,
    Demand,
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
        if _covers(policy, forbidden, facts):
            return _without_quorum(Standing.DENIED, reason="denied_by_rule", rule=forbidden.id)
    covering = [rule for rule in policy.allow if _allows(policy, rule.scope, facts)]
    for rule in covering:
        if _over_cap(rule, facts) is None:
            return _count(policy, rule, facts, given)
    nearest = _over_cap(covering[0], facts) if covering else None
    return _without_quorum(
        Standing.DENIED, reason=nearest or "no_rule", rule=covering[0].scope.id if covering else ""
    )


def _count(policy: ApprovalPolicy, rule: AllowRule, facts: Facts, decisions: tuple[Decision, ...]) -> Verdict:
    groups = {person.id: person.groups for person in policy.approvers if person.id != facts.initiator}
    approving = {each.approver for each in decisions if each.word is Word.APPROVE} & groups.keys()
    counts = seat(rule.approvals, {name: groups[name] for name in approving})
    return Verdict(
        standing=Standing.PENDING if any(each.missing for each in counts) else Standing.APPROVED,
        rule=rule.scope.id,
        reason="",
        counts=counts,
        cool_down_s=rule.cool_down_s,
    )


def seat(demands: tuple[Demand, ...], people: Mapping[str, Collection[str]]) -> tuple[Count, ...]:
    """Give each of `people` (name to groups) at most one place, as the signer does, so that as many as possible are filled.

    Places in the order of the demands, people in the order of their names; who has a place moves only to make room.
    """
    places = [demand.group for demand in demands for _ in range(demand.threshold)]
    place_of: dict[str, int] = {}
    names = sorted(people)

    def fill(place: int, tried: set[str]) -> bool:
        for name in names:
            if places[place] in people[name] and name not in tried:
                tried.add(name)
                if name not in place_of or fill(place_of[name], tried):
                    place_of[name] = place
                    return True
        return False

    for place in range(len(places)):
        fill(place, set())
    counts, start = [], 0
    for demand in demands:
        end = start + demand.threshold
        taken = sorted(name for name, place in place_of.items() if start <= place < end)
        counts.append(Count(group=demand.group, threshold=demand.threshold, counted=tuple(taken)))
        start = end
    return tuple(counts)


def _allows(policy: ApprovalPolicy, scope: Scope, facts: Facts) -> bool:
    return _covers(policy, scope, facts) and not (facts.needs_own_rule and scope.kind == ANY)


def _covers(policy: ApprovalPolicy, scope: Scope, facts: Facts) -> bool:
    pairs = (
        (scope.org, facts.org),
        (scope.vault, facts.vault),
        (scope.key, facts.key),
        (scope.chain, facts.chain),
        (scope.kind, facts.kind),
        (scope.asset, facts.asset),
    )
    if any(wanted not in {ANY, found} for wanted, found in pairs):
        return False
    listed = {
        f"@{named.name}"
        for named in policy.address_book
        if any((one.chain, one.address) == (facts.chain, facts.destination) for one in named.entries)
    }
    if facts.into_vault:
        listed.add(f"vault:{facts.into_vault}")
    return scope.destinations == (ANY,) or not {facts.destination, *listed}.isdisjoint(scope.destinations)


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
    return Verdict(standing=standing, rule=rule, reason=reason, counts=(), cool_down_s=0)
