"""One approval over many payments: taken once, for the lines that its document names and no others.

A line is still an intent of its own, with its slot, its signature and its place in the journal; what a batch brings is who
approved it. Nothing is bound or signed here. The caller holds the signer's lock.
"""

from signer.facts import BatchTaken, BatchVetoed
from signer.governance import adopt_due
from signer.protocol import batch
from signer.protocol.approvals import BATCH_TAG
from signer.protocol.batch import ApproveBatch, Batch, BatchApproved
from signer.protocol.canonical import MalformedIntent
from signer.protocol.intent import Intent
from signer.quorum import Tally, tally
from signer.record import Record
from signer.refusal import Refusal


def take_batch(record: Record, request: ApproveBatch) -> BatchApproved:
    """Let the approvals of a batch stand for its lines. Idempotent; more people may be brought later. Raises Refusal."""
    document, digest, lines = _read(request)
    answer = BatchApproved(batch_digest=digest.hex())
    adopt_due(record)
    if digest in record.state.vetoed:
        raise Refusal("vetoed", "an approver rejected it")
    known = record.state.batches.get(digest)
    if known is not None and {one.approver for one in request.approvals} == known.approved:
        return answer
    votes = _admit(record, document, digest, request)
    if votes.rejected:
        _end(record, request, digest, lines, votes)
    for line in lines:
        if record.state.batch_of.get(line, digest) != digest:
            raise Refusal("line_of_another", "a line is one of another batch")
    if known is not None and not known.approved < votes.approved:
        return answer
    record.append(
        BatchTaken(digest=digest, batch=request.batch, lines=request.lines, approvals=request.approvals)
    )
    return answer


def _read(request: ApproveBatch) -> tuple[Batch, bytes, dict[bytes, Intent]]:
    try:
        document = batch.decode(request.batch)
        return document, batch.digest(request.batch), batch.check_lines(document, request.lines)
    except MalformedIntent as error:
        raise Refusal("malformed_intent", str(error)) from error


def _admit(record: Record, document: Batch, digest: bytes, request: ApproveBatch) -> Tally:
    policy, now = record.policy, record.now()
    if document.policy_version != policy.version:
        raise Refusal("wrong_policy_version", f"policy version {policy.version} is in force")
    if now < document.not_before:
        raise Refusal("not_yet", "the batch is not valid yet")
    if now >= document.expires_at:
        raise Refusal("expired", "the batch is no longer valid")
    return tally(
        policy,
        request.approvals,
        digest=digest,
        initiator=document.initiator,
        not_before=document.not_before,
        counters=record.state.counters,
        tag=BATCH_TAG,
    )


def _end(
    record: Record, request: ApproveBatch, digest: bytes, lines: dict[bytes, Intent], votes: Tally
) -> None:
    """End every line that is not signed; raises Refusal("vetoed")."""
    if any(record.state.under_way[line] for line in lines):
        raise Refusal("busy", "a line's signature is being made; ask again")
    record.append(
        BatchVetoed(digest=digest, batch=request.batch, lines=request.lines, approval=votes.rejected[0])
    )
    raise Refusal("vetoed", "an approver rejected it")
