"""Carry an approved withdrawal out: reserve a slot, sign, send. Confirmation is ingestion's business (`settlement`).

Each step is one transaction or one call to the outside, never both. Before a call the intention is committed, after it the answer
is. So a crash between any two lines repeats a step that is the same step again: the same slot, the same bytes from the signer's
journal, the same bytes to the node. Two workers at once do no harm for the same reason; rows are locked and moves are guarded.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from custody.approvals import service as approvals
from custody.chains.address import STELLAR, namespace
from custody.chains.errors import UnsupportedChain
from custody.chains.ports import ChainClient, SubmissionStatus
from custody.db.session import UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.errors import CustodyError, InvariantViolated, Unavailable
from custody.kernel.ids import TenantId, WithdrawalId
from custody.ledger import service as ledger
from custody.signing.errors import SignerRefused, SignerUndecided
from custody.signing.model import SignedTransaction
from custody.wallets import service as wallets
from custody.withdrawals import (
    attempt_store,
    batches,
    breaks,
    clearance,
    cooling,
    fee_bumps,
    stops,
    store,
    voids,
)
from custody.withdrawals import evm_execution as evm
from custody.withdrawals import reserving_stellar as stellar
from custody.withdrawals.attempt_slots import slot_of
from custody.withdrawals.errors import SlotContested, UnknownWithdrawal
from custody.withdrawals.model import Attempt, Withdrawal
from custody.withdrawals.moves import WORKER, move
from custody.withdrawals.ports import Means
from custody.withdrawals.settlement import claim_stray, lock_hash, release
from custody.withdrawals.transitions import WITHDRAWALS

_log = structlog.get_logger(__name__)

_STEPS_MAX = 8
"""More steps than any withdrawal has between two waits."""
_RETRY_S = 2
"""When to ask a part again that did not answer."""
_SEND_AGAIN_S = {
    SubmissionStatus.ACCEPTED: 10,
    SubmissionStatus.TRY_LATER: 2,
    SubmissionStatus.UNKNOWN: 2,
    SubmissionStatus.REFUSED: 10,
}
"""When to send the same bytes again. None of the answers is a proof: only our own ingestion ends an attempt."""
_SEND_AGAIN_MAX_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A withdrawal that could not be advanced."""

    withdrawal_id: WithdrawalId
    """Which."""
    error: Exception
    """Why."""


async def advance(means: Means, tenant: TenantId, withdrawal_id: WithdrawalId) -> str:
    """Take every step that is possible now and return the state reached. Safe to call at any time, by anybody, twice at once.

    Raises UnknownWithdrawal, and InvariantViolated when rows, signer and chain contradict each other.
    """
    for _ in range(_STEPS_MAX):
        withdrawal, attempt = await _load(means, tenant, withdrawal_id)
        try:
            went_on = await _step(means, tenant, withdrawal, attempt)
        except Unavailable as error:
            _log.info("withdrawal.waits", withdrawal_id=str(withdrawal_id), reason=str(error))
            await _look_again(means, tenant, withdrawal, _RETRY_S)
            went_on = False
        if not went_on:
            break
    return (await _load(means, tenant, withdrawal_id))[0].state


async def advance_due(means: Means, tenant: TenantId, *, limit: int = 100, at_once: int = 8) -> list[Failure]:
    """Advance everything that is due, `at_once` withdrawals side by side. One that fails does not stop the others."""
    async with means.db.read(tenant) as session:
        due = await store.load_due(session, limit)
    free = asyncio.Semaphore(at_once)

    async def one(withdrawal_id: WithdrawalId) -> Failure | None:
        async with free:
            try:
                await advance(means, tenant, withdrawal_id)
            except (CustodyError, SQLAlchemyError) as error:
                withdrawal, _ = await _load(means, tenant, withdrawal_id)
                contradiction = isinstance(error, CustodyError)
                await _look_again(means, tenant, withdrawal, _SEND_AGAIN_MAX_S if contradiction else _RETRY_S)
                return Failure(withdrawal_id=withdrawal_id, error=error)
        return None

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(each)) for each in due]
    return [failure for task in tasks if (failure := task.result()) is not None]


async def _step(means: Means, tenant: TenantId, withdrawal: Withdrawal, attempt: Attempt | None) -> bool:
    """One step. Returns whether another may follow at once."""
    match withdrawal.state:
        case "requested" | "screening":
            return await clearance.ask(means, tenant, withdrawal)
        case "approved" | "cooling_down":
            return await _reserve(means, tenant, withdrawal)
        case "signing" if attempt is None:
            return await _reserve(means, tenant, withdrawal)
        case "signing":
            return await _sign(means, tenant, withdrawal, _given(attempt))
        case "broadcasting" if attempt is not None and attempt.state == "reserved":
            return await _sign(means, tenant, withdrawal, attempt)
        case "broadcasting":
            return await _send(means, tenant, withdrawal, _given(attempt))
        case "rejected":
            return await _veto(means, tenant, withdrawal)
        case _:
            await _look_again(means, tenant, withdrawal, None)
            return False


async def _reserve(means: Means, tenant: TenantId, withdrawal: Withdrawal) -> bool:
    """Commit a slot. Asks signer and chain first: a slot is not taken while nobody could sign or send."""
    if not await _may_reserve(means, tenant, withdrawal):
        return False
    async with means.db.read(tenant) as session:
        sender = await wallets.get_vault(session, withdrawal.sender_id)
        on_stellar = namespace(sender.chain) == STELLAR
        its_turn = not on_stellar or await stellar.is_its_turn(session, withdrawal)
    # One without a slot whose window has closed is about to be given up; see `_close`.
    gives_up = withdrawal.state == "signing" and means.clock.now() >= withdrawal.expires_at
    if gives_up and not await voids.void(means.signer, withdrawal.intent):
        raise SlotContested("a withdrawal without a slot has been signed", withdrawal=str(withdrawal.id))
    if not its_turn:
        await _look_again(means, tenant, withdrawal, stellar.TURN_S)
        return False
    await means.signer.health()
    client = _client(means, sender.chain)
    asked = await (stellar.ask(client, withdrawal, sender) if on_stellar else evm.ask(client, sender))
    async with means.db.unit_of_work(tenant) as uow:
        await uow.lock(f"slots/{tenant}/{sender.id}")
        locked = await store.lock_withdrawal(uow, withdrawal.id)
        if locked is None or locked.state != withdrawal.state:
            return True
        if await attempt_store.load_open(uow, withdrawal.id) is not None or not await clearance.is_clear(
            uow, locked
        ):
            return True
        if means.clock.now() >= locked.expires_at:
            await _close(uow, locked)
            return False
        if await stops.waits(uow, means, locked) or await breaks.holds_back(uow, locked):
            return False
        if isinstance(asked, stellar.Asked):
            return await stellar.reserve(uow, means, locked, sender, asked)
        return await evm.reserve(uow, means, locked, sender, asked)


async def _may_reserve(means: Means, tenant: TenantId, withdrawal: Withdrawal) -> bool:
    """Whether nothing holds it back that is found out before anybody outside is asked."""
    if withdrawal.state == "cooling_down":
        async with means.db.unit_of_work(tenant) as uow:
            if not await cooling.has_cooled(uow, withdrawal):
                return False
    if await stops.has_to_wait(means, tenant, withdrawal):
        return False
    async with means.db.read(tenant) as session:
        clear = await clearance.is_clear(session, withdrawal)
        differs = await breaks.is_stopped(session, withdrawal)
    if not clear:
        await _block(means, tenant, withdrawal)
        return False
    closed = means.clock.now() >= withdrawal.expires_at
    return closed or not differs or await breaks.wait_if_stopped(means.db, tenant, withdrawal)


async def _block(means: Means, tenant: TenantId, withdrawal: Withdrawal) -> None:
    """Block what the tenant's list names by now. The signer is told first, as whenever approvals are given up."""
    if not await voids.void(means.signer, withdrawal.intent):
        raise SlotContested("a withdrawal without a slot has been signed", withdrawal=str(withdrawal.id))
    async with means.db.unit_of_work(tenant) as uow:
        locked = await store.lock_withdrawal(uow, withdrawal.id)
        if locked is not None and locked.state == withdrawal.state:
            await clearance.block_refused(uow, locked)


async def _close(uow: UnitOfWork, withdrawal: Withdrawal) -> None:
    """The window has closed without a slot. Before `signing` the sweeper expires it; in `signing` every slot was refused."""
    if withdrawal.state in WITHDRAWALS.sources("expire"):
        await store.look_again(uow, withdrawal, _RETRY_S)
        return
    if commands := release(withdrawal):
        await ledger.post(uow, *commands)
    await move(uow, withdrawal, "refuse", actor=WORKER, reason="window closed")


async def _sign(means: Means, tenant: TenantId, withdrawal: Withdrawal, attempt: Attempt) -> bool:
    """Get the bytes and store them before anybody can send them."""
    if stops.can_be_signed(attempt, means.clock) and await stops.has_to_wait(means, tenant, withdrawal):
        return False
    async with means.db.read(tenant) as session:
        decisions = await approvals.list_for(session, withdrawal.digest)
    try:
        await _bring_batch(means, tenant, withdrawal)
        signed = await means.signer.sign(attempt.intent or withdrawal.intent, decisions, slot_of(attempt))
    except SignerUndecided as undecided:
        if undecided.values["reason"] != "stopped":
            raise
        await stops.wait_for_signer(means, tenant, withdrawal)
        return False
    except SignerRefused as refusal:
        return await _refused(means, tenant, withdrawal, attempt, refusal.reason)
    async with means.db.unit_of_work(tenant) as uow:
        await lock_hash(uow, attempt.chain, signed.tx_hash)
        locked = await store.lock_withdrawal(uow, withdrawal.id)
        if locked is not None and locked.state == withdrawal.state:
            if not await attempt_store.is_reserved(uow, attempt):
                return True
            await _store_bytes(uow, locked, attempt, signed)
    return True


async def _bring_batch(means: Means, tenant: TenantId, withdrawal: Withdrawal) -> None:
    """Show the signer who approved the batch that this is a line of. Its refusal is no word about the line: that comes next."""
    async with means.db.read(tenant) as session:
        batch = await batches.find_batch_of(session, withdrawal.id)
        if batch is None:
            return
        whole = await batches.view(session, batch.id)
    try:
        lines = [line.intent for line in whole.lines]
        await means.signer.approve_batch(batch.document, lines, whole.decisions)
    except SignerRefused as refusal:
        _log.info("withdrawal.batch_refused", batch_id=str(batch.id), reason=refusal.reason)


async def _store_bytes(
    uow: UnitOfWork, withdrawal: Withdrawal, attempt: Attempt, signed: SignedTransaction
) -> None:
    stored = await attempt_store.change_attempt(uow, attempt, "sign", tx=signed.tx, tx_hash=signed.tx_hash)
    if withdrawal.state == "signing":
        withdrawal = await move(uow, withdrawal, "sign", actor=WORKER, detail={"tx_hash": signed.tx_hash})
    await claim_stray(uow, withdrawal, stored)


async def _refused(
    means: Means, tenant: TenantId, withdrawal: Withdrawal, attempt: Attempt, reason: str
) -> bool:
    """The signer said no. Only a refusal of the intent itself ends the withdrawal.

    The signer answers with the bytes whenever it has signed this request before, so a refusal proves that it has not.
    """
    on_stellar = namespace(attempt.chain) == STELLAR
    _log.warning("withdrawal.sign_refused", withdrawal_id=str(withdrawal.id), reason=reason)
    if reason == "already_bound":
        raise SlotContested(withdrawal=str(withdrawal.id), sequence=attempt.sequence)
    if reason == "slot_used" and on_stellar:
        await _look_again(means, tenant, withdrawal, _RETRY_S)
        return False
    another_slot = (reason == "bad_binding" and on_stellar) or (reason == "slot_used" and not on_stellar)
    gives_up = withdrawal.state == "signing" and not another_slot
    if gives_up and not await voids.void(means.signer, withdrawal.intent):
        # Signed since: by the very same request, or for somebody else. Asking again tells.
        await _look_again(means, tenant, withdrawal, _RETRY_S)
        return False
    async with means.db.unit_of_work(tenant) as uow:
        locked = await store.lock_withdrawal(uow, withdrawal.id)
        if locked is None or locked.state != withdrawal.state:
            return True
        if not await attempt_store.is_reserved(uow, attempt):
            return True
        if locked.state == "broadcasting":
            await evm.replacement_refused(uow, locked, attempt, reason)
            return False
        if not another_slot and (commands := release(locked)):
            await ledger.post(uow, *commands)
        # A nonce that the signer's journal knows is spoken for, whatever our rows say; it is not tried again.
        await attempt_store.change_attempt(uow, attempt, "refuse", holds_slot=reason == "slot_used")
        if another_slot:
            await store.look_again(uow, withdrawal, _RETRY_S)
        else:
            await move(uow, locked, "refuse", actor=WORKER, reason=f"signer refused: {reason}")
    return False


async def _send(means: Means, tenant: TenantId, withdrawal: Withdrawal, attempt: Attempt) -> bool:
    """Send the stored bytes, for the first time or again. Whatever the node says, it is only noted."""
    if attempt.tx is None or attempt.tx_hash is None:
        raise InvariantViolated("broadcasting without bytes", attempt=str(attempt.id))
    if attempt.state == "signed":
        async with means.db.unit_of_work(tenant) as uow:
            locked = await store.lock_withdrawal(uow, withdrawal.id)
            now = await attempt_store.load_open(uow, withdrawal.id)
            if locked is None or locked.state != withdrawal.state or now is None:
                return True
            if now.state == "signed":
                if await stops.waits(uow, means, locked):
                    return False
                await attempt_store.change_attempt(uow, now, "send")
    on_evm = namespace(attempt.chain) != STELLAR
    if on_evm and await evm.stands_back(means, tenant, withdrawal, attempt):
        return False
    client = _client(means, attempt.chain)
    submission = await client.submit(attempt.tx, attempt.tx_hash)
    answer = f"{submission.status.value} {submission.code}".strip()
    again_s = min(_SEND_AGAIN_S[submission.status] * 2 ** min(attempt.sends, 5), _SEND_AGAIN_MAX_S)
    _log.info("withdrawal.broadcast", withdrawal_id=str(withdrawal.id), tx=attempt.tx_hash, answer=answer)
    async with means.db.unit_of_work(tenant) as uow:
        locked = await store.lock_withdrawal(uow, withdrawal.id)
        if locked is not None and locked.state == withdrawal.state:
            await attempt_store.note_answer(uow, attempt, answer)
            await store.look_again(uow, withdrawal, again_s)
    if not on_evm:
        await fee_bumps.bump_if_stuck(means, tenant, withdrawal)
        return False
    # A first refusal may be about the price. One of a replacement is looked at in the next round: the node's quote may lag.
    refused = submission.status is SubmissionStatus.REFUSED and attempt.alternative_of is None
    if attempt.sends or refused:
        return await evm.follow(means, client, tenant, withdrawal, attempt, submission)
    return False


async def _veto(means: Means, tenant: TenantId, withdrawal: Withdrawal) -> bool:
    """Tell the signer of a veto, so that nobody can have this intent signed while its window is open."""
    async with means.db.read(tenant) as session:
        decisions = await approvals.list_for(session, withdrawal.digest)
    if not decisions:
        # Rejected with its batch.
        await _bring_batch(means, tenant, withdrawal)
        await _look_again(means, tenant, withdrawal, None)
        return False
    try:
        await means.signer.veto(withdrawal.intent, decisions)
    except SignerRefused as refusal:
        if refusal.reason == "already_signed":
            raise SlotContested(
                "a rejected withdrawal has been signed", withdrawal=str(withdrawal.id)
            ) from refusal
        _log.warning("withdrawal.veto_refused", withdrawal_id=str(withdrawal.id), reason=refusal.reason)
    await _look_again(means, tenant, withdrawal, None)
    return False


async def _load(
    means: Means, tenant: TenantId, withdrawal_id: WithdrawalId
) -> tuple[Withdrawal, Attempt | None]:
    async with means.db.read(tenant) as session:
        found = await store.load_withdrawal(session, withdrawal_id)
        if found is None:
            raise UnknownWithdrawal(id=str(withdrawal_id))
        return found, await attempt_store.load_open(session, withdrawal_id)


async def _look_again(means: Means, tenant: TenantId, seen: Withdrawal, look_in_s: int | None) -> None:
    async with means.db.unit_of_work(tenant) as uow:
        await store.look_again(uow, seen, look_in_s)


def _client(means: Means, chain: ChainId) -> ChainClient:
    client = means.clients.get(chain)
    if client is None:
        raise UnsupportedChain(chain=chain)
    return client


def _given(attempt: Attempt | None) -> Attempt:
    if attempt is None:
        raise InvariantViolated("a withdrawal in flight has no open attempt")
    return attempt
