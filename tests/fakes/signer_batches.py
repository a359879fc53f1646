"""Batches and who approves them: what tests of batches start from."""

from collections.abc import Sequence
from uuid import uuid4

from signer.protocol import batch
from signer.protocol.approvals import BATCH_TAG, Approval, RawSignature, approval_message
from signer.protocol.batch import ApproveBatch
from tests.fakes.signer_people import approver_key, public_hex


def vote(data: bytes, *names: str, decision: str = "approve", version: int = 1) -> tuple[Approval, ...]:
    """The approvals of these people for a batch."""
    message = approval_message(
        decision=decision, digest=batch.digest(data), approver_set_version=version, tag=BATCH_TAG
    )
    return tuple(
        Approval(
            approver=name,
            public_key=public_hex(approver_key(name)),
            decision=decision,
            evidence=RawSignature(signature=approver_key(name).sign(message)),
        )
        for name in names
    )


def ask_batch(lines: Sequence[bytes], *names: str, decision: str = "approve") -> ApproveBatch:
    """A batch of these lines as these people decided about it."""
    data = batch.build(lines, str(uuid4()))
    return ApproveBatch(
        batch=data, lines=tuple(lines), approvals=vote(data, *(names or ("alice", "bob")), decision=decision)
    )
