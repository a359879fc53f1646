"""Whose approvals count. People are counted, not signatures; one approval that does not verify refuses the
request.
"""

from dataclasses import dataclass

from signer.counters import Counted, Counters
from signer.evidence import verify_evidence
from signer.policy.document import Policy
from signer.protocol.approvals import APPROVAL_TAG, DECISIONS, Approval, approval_message
from signer.refusal import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The people behind the approvals of one request, all verified."""

    digest: bytes
    """The intent that they decided about."""
    approved: frozenset[str]
    rejected: tuple[Approval, ...]


def tally(
    policy: Policy,
    approvals: tuple[Approval, ...],
    *,
    digest: bytes,
    initiator: str,
    not_before: int,
    counters: Counters,
    tag: bytes = APPROVAL_TAG,
) -> Tally:
    """Verify every approval and return who decided what. `tag` keeps approvals of transactions and of governance apart.

    The approver's key is looked up in the policy in force, so a revoked person or key is unknown here; the
    message holds the approver set's version, so an approval given under another set does not verify. Raises
    Refusal on the first approval that may not count.
    """
    approved: set[str] = set()
    rejected: list[Approval] = []
    seen: set[str] = set()
    for approval in approvals:
        counted = _verify(policy, approval, digest, tag)
        if not counters.is_possible(counted, digest=digest, not_before=not_before):
            raise Refusal("counter_regressed", f"{approval.approver}'s passkey has shown this counter before")
        if approval.approver in seen:
            raise Refusal("duplicate_approver", f"{approval.approver} decides more than once")
        seen.add(approval.approver)
        if approval.decision == "reject":
            rejected.append(approval)
        elif approval.approver == initiator:
            raise Refusal("initiator_approved", f"{initiator} asked for it and may not approve it")
        else:
            approved.add(approval.approver)
    return Tally(digest=digest, approved=frozenset(approved), rejected=tuple(rejected))


def _verify(policy: Policy, approval: Approval, digest: bytes, tag: bytes) -> Counted:
    if approval.decision not in DECISIONS:
        raise Refusal("bad_decision", "a decision is approve or reject")
    person = policy.approvers.get(approval.approver)
    if person is None:
        raise Refusal("unknown_approver", f"{approval.approver} is not an approver")
    key = person.key(approval.public_key)
    if key is None:
        raise Refusal("unknown_approver_key", f"the key is not one of {approval.approver}'s")
    version = policy.approver_set_version
    message = approval_message(
        decision=approval.decision, digest=digest, approver_set_version=version, tag=tag
    )
    return Counted(public_key=key.public_key, counter=verify_evidence(key, approval.evidence, message))
