"""Whether an approver's word about an intent is that person's own, and may be said."""

from __future__ import annotations

from custody.policy.model import ApprovalPolicy, Approver, Decision, Word
from custody.signing import intents
from custody.signing.errors import InvalidDecision
from custody.signing.evidence import verify_signature
from signer.protocol import approvals


def verify_decision(intent: bytes, policy: ApprovalPolicy, decision: Decision) -> Approver:
    """The person who validly decided about this intent.

    Raises InvalidDecision with a reason. The signer checks all of it again; here it keeps garbage from being recorded, since the
    signer refuses a whole request for one approval that does not verify.
    """
    return verify_word(
        policy,
        decision,
        digest=intents.digest(intent),
        initiator=intents.facts_of(intent).initiator,
        tag=approvals.APPROVAL_TAG,
    )


def verify_word(
    policy: ApprovalPolicy, decision: Decision, *, digest: bytes, initiator: str, tag: bytes
) -> Approver:
    """The same about anything that is named by a digest and signed under a tag. Raises InvalidDecision with a reason."""
    person = policy.approver(decision.approver)
    if person is None:
        raise InvalidDecision(reason="unknown_approver", approver=decision.approver)
    key = person.key(decision.public_key)
    if key is None:
        raise InvalidDecision(reason="unknown_approver_key", approver=decision.approver)
    if decision.word is Word.APPROVE and person.id == initiator:
        raise InvalidDecision(reason="initiator_approved", approver=decision.approver)
    message = approvals.approval_message(
        decision=decision.word.value,
        digest=digest,
        approver_set_version=policy.approver_set_version,
        tag=tag,
    )
    verify_signature(key, decision, message)
    return person
