"""Batches: the document that approvers sign for many payments, built and read here. Source: SPEC.md of the signer, section 14."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from custody.policy.evaluate import evaluate
from custody.policy.model import ApprovalPolicy, Approver, Decision, Standing, Verdict
from custody.signing.decisions import verify_word
from custody.signing.errors import InvalidIntent
from custody.signing.intents import facts_of
from signer.protocol import batch, canonical
from signer.protocol.approvals import BATCH_TAG

LINES_MAX = batch.LINES_MAX


def build_document(lines: Sequence[bytes], request_id: UUID) -> bytes:
    """The canonical bytes of a batch of these intents, in this order. Raises InvalidIntent when they cannot be one."""
    try:
        return batch.build(lines, str(request_id))
    except canonical.MalformedIntent as error:
        raise InvalidIntent(reason=error.code, field=error.field) from error


def digest(document: bytes) -> bytes:
    """What approvers sign for."""
    return batch.digest(document)


def show(document: bytes) -> dict[str, str]:
    """Every field of the document as text."""
    read = batch.decode(document)
    return {name: str(getattr(read, name)) for name in read.__dataclass_fields__}


def verify_decision(document: bytes, policy: ApprovalPolicy, decision: Decision) -> Approver:
    """The person who validly decided about this batch. Raises InvalidDecision with a reason."""
    return verify_word(
        policy,
        decision,
        digest=digest(document),
        initiator=batch.decode(document).initiator,
        tag=BATCH_TAG,
    )


def judge(policy: ApprovalPolicy, lines: Sequence[bytes], decisions: Sequence[Decision]) -> Verdict:
    """How the policy stands towards all lines together: each as large as what is paid of its asset; the hardest one decides."""
    read = [canonical.decode(line) for line in lines]
    sums = batch.sums_of(read)
    hardest: Verdict | None = None
    for line in lines:
        facts = facts_of(line)
        whole = replace(facts, amount=sums[(facts.chain, facts.vault, facts.asset)])
        verdict = evaluate(policy, whole, decisions)
        if hardest is None or _hardness(verdict) > _hardness(hardest):
            hardest = verdict
    if hardest is None:
        raise InvalidIntent(reason="wrong_lines", field="lines")
    return hardest


def _hardness(verdict: Verdict) -> tuple[int, int, int]:
    order = (Standing.APPROVED, Standing.PENDING, Standing.DENIED, Standing.REJECTED)
    return order.index(verdict.standing), verdict.missing, verdict.threshold
