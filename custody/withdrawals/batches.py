"""Many withdrawals under one approval, of which the approver sees every line: asked for, decided about and taken back as one.

Each line is a withdrawal with a state, a slot and an end of its own; the batch says who approved it. What the policy asks for is
judged by all that the batch moves of an asset, so that splitting asks nobody less. Source: signer/protocol/SPEC.md section 14.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from custody.approvals import service as approvals
from custody.approvals.errors import DecisionExistsDifferent
from custody.audit import service as audit
from custody.chains.stellar.receivers import Receiver
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.identity.model import Principal
from custody.kernel.clock import Clock, FixedClock
from custody.kernel.ids import WithdrawalId, derived_uuid
from custody.ledger import service as ledger
from custody.ledger.model import Command
from custody.policy import service as policies
from custody.policy.errors import PolicyDenies
from custody.policy.model import Decision, Standing, Verdict
from custody.settings import Settings
from custody.signing import batches as documents
from custody.withdrawals import batch_store, clearance, cooling, requesting, store
from custody.withdrawals.checks import check_amount, check_destination
from custody.withdrawals.errors import (
    BadBatchSize,
    BatchExistsDifferent,
    CancelTooLate,
    DecisionTooEarly,
    DecisionTooLate,
    UnknownBatch,
    UnknownWithdrawal,
)
from custody.withdrawals.model import Batch, BatchView, RequestWithdrawal, Withdrawal
from custody.withdrawals.moves import move
from custody.withdrawals.settlement import release
from custody.withdrawals.transitions import BEFORE_APPROVERS, WITHDRAWALS

_UNDECIDED = Verdict(standing=Standing.PENDING, rule="", reason="", counts=(), cool_down_s=0)
"""Of a line by itself: only the batch as a whole is judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBatch:
    """What a custody app asks for."""

    id: UUID
    """Chosen by the edge; the same id with the same lines is the same batch."""
    lines: tuple[RequestWithdrawal, ...]
    """Their ids are those of `line_id`."""
    receivers: tuple[Receiver | None, ...]
    """What `receivers.look_up` said just before of each line's."""


def line_id(batch_id: UUID, place: int) -> WithdrawalId:
    """The id of the withdrawal at a place of a batch: the same each time the request is repeated."""
    return WithdrawalId(derived_uuid("batch_line", batch_id, place))


async def request(
    uow: UnitOfWork, principal: Principal, command: RequestBatch, *, settings: Settings, clock: Clock
) -> BatchView:
    """Hold the money of every line, or of none, and write the document that approvers sign.

    Idempotent by id. Raises BadBatchSize, BatchExistsDifferent, InvalidIntent, what `withdrawals.service.request` raises of any
    line, and PolicyDenies when no rule holds the lines together. Locks the ledger accounts of all wallets and vaults.
    """
    await uow.lock(f"withdrawal_batch/{uow.tenant}/{command.id}")
    if not 1 <= len(command.lines) <= documents.LINES_MAX:
        raise BadBatchSize(lines=len(command.lines))
    if await batch_store.load_batch(uow, command.id) is not None:
        return _same(await view(uow, command.id), command)
    # One window for all lines: approvers see one.
    now = FixedClock(clock.now())
    written: list[Withdrawal] = []
    holds: list[Command] = []
    for line, receiver in zip(command.lines, command.receivers, strict=True):
        check_amount(line.asset, line.amount)
        destination = check_destination(line.asset, line.destination, line.memo)
        drafted = await requesting.draft(
            uow, principal, line, destination, settings=settings, clock=now, receiver=receiver
        )
        # Written before the next is drafted, so that it counts where channels are given out.
        await clearance.write(uow, drafted.withdrawal)
        written.append(drafted.withdrawal)
        holds += drafted.holds
    await ledger.post(uow, *holds)
    asks_outside = settings.screening is not None
    lines = [await clearance.screen(uow, line, _UNDECIDED, asks_outside=asks_outside) for line in written]
    document = documents.build_document([line.intent for line in lines], command.id)
    batch = Batch(
        id=command.id,
        document=document,
        digest=documents.digest(document),
        policy_version=lines[0].policy_version,
        initiator=principal.subject,
        expires_at=lines[0].expires_at,
        created_at=now.now(),
    )
    await batch_store.insert_batch(uow, batch, [line.id for line in lines])
    await _tell(uow, batch, "requested", principal.subject, {"lines": len(lines)})
    asked = await view(uow, command.id)
    if asked.verdict.standing is Standing.DENIED:
        raise PolicyDenies(reason=asked.verdict.reason, rule=asked.verdict.rule)
    if asked.verdict.standing is Standing.APPROVED:
        await _approve(uow, asked.lines, "policy", asked.verdict)
        return await view(uow, command.id)
    return asked


async def decide(uow: UnitOfWork, batch_id: UUID, decision: Decision) -> BatchView:
    """Record one approver's signed word about all lines, and move them on when the policy says so.

    Lines that were taken back, rejected or have expired by themselves stay so. The same word again gets the same answer. Raises
    InvalidDecision, DecisionExistsDifferent, DecisionTooEarly (a line's receiver is still being screened), DecisionTooLate (no
    line waits any more), UnknownBatch. Locks all lines.
    """
    batch = await get(uow, batch_id)
    lines = await _lock_lines(uow, batch_id)
    policy = await policies.at_version(uow, batch.policy_version)
    documents.verify_decision(batch.document, policy, decision)
    given = await approvals.list_for(uow, batch.digest)
    earlier = next((each for each in given if each.approver == decision.approver), None)
    if earlier is not None and earlier.word is not decision.word:
        raise DecisionExistsDifferent(approver=decision.approver, decided=earlier.word.value)
    if earlier is not None:
        return await view(uow, batch_id)
    for line in lines:
        if line.state in BEFORE_APPROVERS:
            raise DecisionTooEarly(state=line.state)
    waiting = [line for line in lines if line.state in WITHDRAWALS.sources("reject")]
    if not waiting:
        raise DecisionTooLate(state=lines[0].state)
    await approvals.record(uow, batch.digest, decision)
    decided = await view(uow, batch_id)
    actor = f"approver:{decision.approver}"
    detail = {
        "approver": decision.approver,
        "decision": decision.word.value,
        "missing": decided.verdict.missing,
    }
    await _tell(uow, batch, "decided", actor, {"lines": len(lines), **detail})
    if decided.verdict.standing is Standing.REJECTED:
        await _release(uow, waiting)
        for line in waiting:
            await move(uow, line, "reject", actor=actor, reason=f"rejected by {decision.approver}")
    if decided.verdict.standing is Standing.APPROVED:
        await _approve(uow, waiting, actor, decided.verdict)
    return await view(uow, batch_id)


async def cancel(uow: UnitOfWork, principal: Principal, batch_id: UUID) -> BatchView:
    """Take all lines back before a key is touched for any of them. Cancelling again changes nothing.

    Raises CancelTooLate: then single lines may still be cancelled. UnknownBatch. Locks all lines.
    """
    batch = await get(uow, batch_id)
    lines = await _lock_lines(uow, batch_id)
    open_lines = [line for line in lines if line.state not in WITHDRAWALS.terminal]
    for line in open_lines:
        if line.state not in WITHDRAWALS.sources("cancel"):
            raise CancelTooLate(state=line.state)
    await _release(uow, open_lines)
    for line in open_lines:
        await move(uow, line, "cancel", actor=principal.subject, reason="cancelled by requester")
    if open_lines:
        await _tell(uow, batch, "cancelled", principal.subject, {"lines": len(open_lines)})
    return await view(uow, batch_id)


async def get(session: ReadSession, batch_id: UUID) -> Batch:
    """One batch. Raises UnknownBatch."""
    found = await batch_store.load_batch(session, batch_id)
    if found is None:
        raise UnknownBatch(batch=str(batch_id))
    return found


async def view(session: ReadSession, batch_id: UUID) -> BatchView:
    """One batch with its lines, its decisions, and who is missing. Raises UnknownBatch."""
    batch = await get(session, batch_id)
    ids = await batch_store.load_line_ids(session, batch_id)
    found = {line.id: line for line in await store.load_withdrawals_of_ids(session, ids)}
    lines = tuple(found[each] for each in ids)
    decisions = await approvals.list_for(session, batch.digest)
    policy = await policies.at_version(session, batch.policy_version)
    return BatchView(
        batch=batch,
        lines=lines,
        decisions=tuple(decisions),
        verdict=documents.judge(policy, [line.intent for line in lines], decisions),
        approver_set_version=policy.approver_set_version,
        approvers=policy.approvers,
    )


async def list_batches(
    session: ReadSession, after: UUID | None = None, limit: int = 50, *, states: Sequence[str] = ()
) -> list[Batch]:
    """A page in order of arrival, after one of them; when told, those with a line in one of these states."""
    return await batch_store.load_page(session, after, limit, states)


async def find_batch_of(session: ReadSession, withdrawal_id: WithdrawalId) -> Batch | None:
    """The batch that a withdrawal is a line of."""
    return await batch_store.find_batch_of(session, withdrawal_id)


async def _lock_lines(uow: UnitOfWork, batch_id: UUID) -> list[Withdrawal]:
    """The lines in the order of the document; locked in the order of their ids, as rows are everywhere."""
    ids = await batch_store.load_line_ids(uow, batch_id)
    locked: dict[WithdrawalId, Withdrawal] = {}
    for each in sorted(ids):
        found = await store.lock_withdrawal(uow, each)
        if found is None:
            raise UnknownWithdrawal(id=str(each))
        locked[each] = found
    return [locked[each] for each in ids]


async def _release(uow: UnitOfWork, lines: Sequence[Withdrawal]) -> None:
    commands = [command for line in lines for command in release(line)]
    if commands:
        await ledger.post(uow, *commands)


async def _approve(uow: UnitOfWork, lines: Sequence[Withdrawal], actor: str, verdict: Verdict) -> None:
    for line in lines:
        if line.state in WITHDRAWALS.sources("approve"):
            await cooling.approve(uow, line, actor=actor, rule=verdict.rule)


async def _tell(uow: UnitOfWork, batch: Batch, fact: str, actor: str, detail: dict[str, object]) -> None:
    told: dict[str, object] = {"digest": batch.digest.hex(), "initiator": batch.initiator, **detail}
    await outbox.emit(uow, f"withdrawal_batch.{fact}", batch.id, told)
    await audit.record(uow, actor, f"withdrawal_batch.{fact}", batch.id, told)


def _same(known: BatchView, command: RequestBatch) -> BatchView:
    kept = [(line.wallet_id, line.asset, line.destination, line.memo, line.amount) for line in known.lines]
    asked = [
        (
            line.wallet_id,
            line.asset,
            check_destination(line.asset, line.destination, line.memo).address,
            line.memo,
            line.amount,
        )
        for line in command.lines
    ]
    if kept != asked:
        raise BatchExistsDifferent(batch=str(command.id))
    return known
