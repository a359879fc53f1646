"""How the policy stands towards withdrawals, a whole page at once: which rule decides, who has decided, and who still may."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from custody.approvals import service as approvals
from custody.db.session import ReadSession
from custody.kernel.ids import WithdrawalId
from custody.policy import service as policies
from custody.policy.evaluate import evaluate
from custody.policy.model import ApprovalPolicy, Count, Decision, Verdict
from custody.signing import intents
from custody.withdrawals.model import Withdrawal


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """How far one demand of the rule is met, and by whom it could be."""

    count: Count
    """Group, threshold, and whose approval counts here."""
    candidates: tuple[str, ...]
    """People of the group who have not decided and did not ask for it, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """How the policy of its intent stands towards one withdrawal."""

    verdict: Verdict
    """The answer, with the rule that gives it."""
    policy_version: int
    """Version of the policy that was asked."""
    approver_set_version: int
    """Version of the approver set that decisions are bound to."""
    seats: tuple[Seat, ...]
    """One for each demand of the rule."""
    decisions: tuple[Decision, ...]
    """Decisions so far, oldest first."""


async def judge(session: ReadSession, asked: Collection[Withdrawal]) -> dict[WithdrawalId, Judgement]:
    """What the policy says of each, by id: two questions however many are asked about."""
    decisions = await approvals.list_for_all(session, [each.digest for each in asked])
    by_version = await policies.at_versions(session, {each.policy_version for each in asked})
    return {
        each.id: _judge(each, by_version[each.policy_version], tuple(decisions.get(each.digest, ())))
        for each in asked
    }


def _judge(asked: Withdrawal, policy: ApprovalPolicy, decisions: tuple[Decision, ...]) -> Judgement:
    verdict = evaluate(policy, intents.facts_of(asked.intent), decisions)
    silent = {person.id: person.groups for person in policy.approvers if person.id != asked.initiator}
    for each in decisions:
        silent.pop(each.approver, None)
    seats = tuple(
        Seat(count=count, candidates=tuple(sorted(name for name, of in silent.items() if count.group in of)))
        for count in verdict.counts
    )
    return Judgement(
        verdict=verdict,
        policy_version=policy.version,
        approver_set_version=policy.approver_set_version,
        seats=seats,
        decisions=decisions,
    )
