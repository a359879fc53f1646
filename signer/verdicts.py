"""From the rules' word to the deed: what the journal says was spent, the cool-down after a quorum, and the end by a veto."""

from signer.facts import IntentVetoed, QuorumCompleted
from signer.policy.effect import Effect
from signer.policy.rules import AllowRule
from signer.policy.ruling import Ruling, rule_on
from signer.protocol.approvals import Approval
from signer.quorum import Tally
from signer.record import Record
from signer.refusal import Refusal


def judge(record: Record, effect: Effect, digest: bytes, approved: frozenset[str]) -> Ruling:
    """Return what the policy in force says now; `digest` names the intent, whose own part in what was spent does not count."""
    now = record.now()
    account = (effect.org, effect.vault, effect.chain, effect.asset)

    def spent(rule: AllowRule, seconds: int) -> tuple[int, int]:
        place = (rule.id,) if rule.is_automatic else account
        return record.state.spent(place, now - seconds, digest)

    ruling = rule_on(record.policy, effect, approved, spent, now)
    if ruling.verdict != "allow" or not ruling.cool_down_s:
        return ruling
    complete_at = record.state.completed.get((digest, ruling.rule))
    ready_at = 0 if complete_at is None else complete_at + ruling.cool_down_s
    if complete_at is not None and now >= ready_at:
        return ruling
    return Ruling(
        verdict="wait",
        code="cooling_down",
        rule=ruling.rule,
        counts=ruling.counts,
        cool_down_s=ruling.cool_down_s,
        ready_at=ready_at,
    )


def demand_allowed(
    record: Record, ruling: Ruling, data: bytes, digest: bytes, approvals: tuple[Approval, ...]
) -> None:
    """Return only when the ruling allows; begin the cool-down of a quorum that is complete for the first time.

    Raises Refusal with the ruling's code.
    """
    if ruling.code == "cooling_down" and not ruling.ready_at:
        record.append(QuorumCompleted(digest=digest, intent=data, approvals=approvals, rule=ruling.rule))
    if ruling.verdict != "allow":
        raise Refusal(ruling.code, _sentence(ruling))


def stop_at_veto(record: Record, data: bytes, digest: bytes, votes: Tally) -> None:
    """End the intent for good when somebody rejects it; raises Refusal("vetoed")."""
    if votes.rejected:
        record.append(IntentVetoed(digest=digest, intent=data, approval=votes.rejected[0]))
        raise Refusal("vetoed", "an approver rejected it")


def _sentence(ruling: Ruling) -> str:
    if ruling.code == "quorum_missing":
        missing = [f"{one.missing} more of group {one.group}" for one in ruling.counts if one.missing]
        return f"rule {ruling.rule} needs {' and '.join(missing)}"
    if ruling.code == "cooling_down":
        return f"rule {ruling.rule} waits {ruling.cool_down_s} seconds after its quorum"
    return f"rule {ruling.rule} stops it" if ruling.rule else "no rule allows it"
