"""Making sure that nothing is paid any more, before a hold is released: the signer is told first.

Approvals that people gave are good until the intent expires, and whoever holds them could bring them to the signer by another
way than ours. So a withdrawal that people have approved is taken back, or ended, only once the signer has journaled that it will
never sign it. The call comes before the transaction: should the transaction not follow, the withdrawal is refused by the signer
and its hold released then. What the signer has signed already is not released at all.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import structlog

from custody.db.session import Database, UnitOfWork
from custody.identity.model import Principal
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId, WithdrawalId
from custody.policy import service as policies
from custody.policy.model import Decision
from custody.signing import batches as documents
from custody.signing.decisions import verify_decision
from custody.signing.errors import SignerRefused
from custody.withdrawals import batches, service, store
from custody.withdrawals.errors import CancelTooLate, NotVoided
from custody.withdrawals.model import BatchView, Withdrawal
from custody.withdrawals.ports import Means, Signer

_log = structlog.get_logger(__name__)
_APPROVED = ("approved", "cooling_down")
"""States in which people have approved and no key is touched."""


async def void(signer: Signer, intent: bytes) -> bool:
    """Whether the signer will never sign these bytes; False when it has. Network only. Raises Unavailable: then nobody knows."""
    try:
        await signer.void(intent)
    except SignerRefused as refusal:
        if refusal.reason == "already_signed":
            return False
        # It knows no such key: what it refuses to void it refuses to sign, for the same reason and for good.
        _log.warning("withdrawal.void_refused", reason=refusal.reason)
    return True


async def void_approved(signer: Signer, withdrawals: Collection[Withdrawal]) -> frozenset[WithdrawalId]:
    """Void those that people have approved. Network only. Raises CancelTooLate, Unavailable."""
    done = set()
    for each in withdrawals:
        if each.state in _APPROVED:
            if not await void(signer, each.intent):
                raise CancelTooLate(state=each.state)
            done.add(each.id)
    return frozenset(done)


async def cancel(
    uow: UnitOfWork,
    principal: Principal,
    withdrawal_id: WithdrawalId,
    voided: Collection[WithdrawalId],
) -> Withdrawal:
    """`service.cancel`, unless it was approved since the signer was told: then NotVoided, and the same command is made again."""
    locked = await store.lock_withdrawal(uow, withdrawal_id)
    if locked is not None and locked.state in _APPROVED and locked.id not in voided:
        raise NotVoided
    return await service.cancel(uow, principal, withdrawal_id)


async def reject(
    uow: UnitOfWork, withdrawal_id: WithdrawalId, decision: Decision, voided: Collection[WithdrawalId]
) -> Withdrawal:
    """`service.decide` with a rejection, unless it was approved since the signer was told: then NotVoided."""
    locked = await store.lock_withdrawal(uow, withdrawal_id)
    if locked is not None and locked.state in _APPROVED and locked.id not in voided:
        raise NotVoided
    return await service.decide(uow, withdrawal_id, decision)


async def void_rejected(
    db: Database, signer: Signer, tenant: TenantId, withdrawal_id: WithdrawalId, decision: Decision
) -> frozenset[WithdrawalId]:
    """Void what this person rejects, once the rejection itself is found to be good. Raises InvalidDecision, UnknownWithdrawal,
    CancelTooLate, Unavailable."""
    async with db.read(tenant) as session:
        found = await service.get(session, withdrawal_id)
        policy = await policies.at_version(session, found.policy_version)
    verify_decision(found.intent, policy, decision)
    return await void_approved(signer, [found])


async def void_rejected_batch(
    db: Database, signer: Signer, tenant: TenantId, batch_id: UUID, decision: Decision
) -> frozenset[WithdrawalId]:
    """The same of a batch's lines. Raises InvalidDecision, UnknownBatch, CancelTooLate, Unavailable."""
    async with db.read(tenant) as session:
        found = await batches.view(session, batch_id)
        policy = await policies.at_version(session, found.batch.policy_version)
    documents.verify_decision(found.batch.document, policy, decision)
    return await void_approved(signer, found.lines)


async def reject_batch(
    uow: UnitOfWork, batch_id: UUID, decision: Decision, voided: Collection[WithdrawalId]
) -> BatchView:
    """`batches.decide` with a rejection, unless a line was approved since the signer was told: then NotVoided."""
    await _check_told(uow, batch_id, voided)
    return await batches.decide(uow, batch_id, decision)


async def cancel_batch(
    uow: UnitOfWork, principal: Principal, batch_id: UUID, voided: Collection[WithdrawalId]
) -> BatchView:
    """`batches.cancel`, unless a line was approved since the signer was told: then NotVoided."""
    await _check_told(uow, batch_id, voided)
    return await batches.cancel(uow, principal, batch_id)


async def expire_due(means: Means, tenant: TenantId, now: datetime, limit: int = 100) -> int:
    """`service.expire_due`, without those that people approved and the signer has signed, or does not answer about."""
    async with means.db.read(tenant) as session:
        found = [await service.get(session, each) for each in await store.load_overdue(session, now, limit)]
    kept = set()
    for each in found:
        if each.state in _APPROVED:
            try:
                if await void(means.signer, each.intent):
                    continue
                _log.error("withdrawal.signed_elsewhere", withdrawal_id=str(each.id))
            except Unavailable as error:
                _log.info("withdrawal.waits", withdrawal_id=str(each.id), reason=str(error))
            kept.add(each.id)
    async with means.db.unit_of_work(tenant) as uow:
        return await service.expire_due(uow, now, limit, but=kept)


async def _check_told(uow: UnitOfWork, batch_id: UUID, voided: Collection[WithdrawalId]) -> None:
    lines = (await batches.view(uow, batch_id)).lines
    for line in sorted(lines, key=lambda each: each.id):
        locked = await store.lock_withdrawal(uow, line.id)
        if locked is not None and locked.state in _APPROVED and locked.id not in voided:
            raise NotVoided
