"""Seal what is booked, prove a transfer, and re-derive everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from sqlalchemy import func, select

from custody.db.session import ReadSession, UnitOfWork
from custody.seals import archive_store, chain, store
from custody.seals.archives import month_of
from custody.seals.check import Checker, Message, leaves_of, root_matches
from custody.seals.errors import HistoryAltered, SealClockBehind
from custody.seals.model import Archive, Batch, Checkpoint, Seal, SealedBatch, TransferRow, Verified

BATCHES_PER_SEAL = 1000
"""How many batches one seal takes at most, so that a backlog is worked off in pieces. Only a single transaction can exceed it."""
_PAGE = 200


async def seal_next(uow: UnitOfWork, limit: int = BATCHES_PER_SEAL) -> Seal | None:
    """Append the next seal, if there is anything to seal. Writers do not wait for it, nor it for them; sealers for each other.

    A batch whose transaction has not ended stays above the watermark and comes into a later seal, whatever its number. Raises
    HistoryAltered when a batch is not what its root says: what is wrong is never sealed.
    """
    await uow.lock(f"seals/{uow.tenant}")
    last = await store.load_last_seal(uow)
    from_xid = 0 if last is None else last.to_xid
    watermark, found = await store.load_sealable(uow, from_xid, limit + 1)
    if watermark < from_xid:
        raise SealClockBehind(tenant=uow.tenant, counter=watermark, sealed_to=from_xid)
    if not found:
        return None
    to_xid, batches = await _cut(uow, from_xid, watermark, found, limit)
    now = (await uow.conn.execute(select(func.clock_timestamp()))).scalar_one()
    seal = chain.build_seal(tenant=uow.tenant, last=last, batches=batches, to_xid=to_xid, sealed_at=now)
    await store.insert_seal(uow, seal, await _keep(uow, seal, batches))
    return seal


async def _cut(
    uow: UnitOfWork, from_xid: int, watermark: int, found: list[Batch], limit: int
) -> tuple[int, list[Batch]]:
    """Where the seal ends, and its batches by number. All batches of one transaction go into one seal."""
    if len(found) <= limit:
        return watermark, sorted(found, key=lambda batch: batch.id)
    to_xid = found[-1].xid
    if to_xid > found[0].xid:
        return to_xid, sorted((one for one in found if one.xid < to_xid), key=lambda batch: batch.id)
    whole: list[Batch] = []
    while page := await store.load_range(
        uow, from_xid, to_xid + 1, after=whole[-1].id if whole else 0, limit=_PAGE
    ):
        whole.extend(page)
    return to_xid + 1, whole


async def _keep(uow: UnitOfWork, seal: Seal, batches: Sequence[Batch]) -> list[SealedBatch]:
    """What is kept of each batch, its root derived again."""
    kept = []
    for start in range(0, len(batches), _PAGE):
        page = batches[start : start + _PAGE]
        transfers = await store.load_transfers(uow, [batch.id for batch in page])
        for batch in page:
            leaves = leaves_of(transfers[batch.id])
            if len(leaves) != batch.transfers or not root_matches(leaves, batch.root):
                raise HistoryAltered(
                    tenant=uow.tenant,
                    table="ledger_batches",
                    row=batch.id,
                    differs="root or count do not follow from the transfers",
                )
            kept.append(
                SealedBatch(
                    tenant=uow.tenant,
                    batch_id=batch.id,
                    sequence=seal.sequence,
                    leaves=chain.marks(leaves),
                )
            )
    return kept


async def unsigned(session: ReadSession, limit: int) -> list[Seal]:
    """Seals that wait for their signature, in order."""
    return await store.load_unsigned(session, limit)


async def signing_key(session: ReadSession) -> str | None:
    """The id of the key that signed last."""
    newest = await store.load_last_checkpoint(session)
    return None if newest is None else newest.key_id


async def key_ids(session: ReadSession) -> list[str]:
    """Ids of all keys that are said to have signed."""
    return await store.load_key_ids(session)


async def record_checkpoint(uow: UnitOfWork, checkpoint: Checkpoint) -> bool:
    """Keep a signature. False when it is there already, from another process that signed the same seal."""
    await uow.lock(f"seals/{uow.tenant}")
    there = await store.load_checkpoints(uow, checkpoint.sequence, checkpoint.sequence)
    if there:
        return False
    await store.insert_checkpoint(uow, checkpoint)
    return True


async def verify(session: ReadSession, message: Message, trusted: frozenset[bytes] | None) -> Verified:
    """Re-derive the tenant's leaves, roots, chain and signatures.

    Raises HistoryAltered or CheckpointUntrusted at the first bad row. `session` must see one snapshot throughout, as
    `Database.read` does.
    """
    checker = Checker(session.tenant, message, trusted)
    archived = frozenset(archive.month for archive in await archives(session))
    last: Seal | None = None
    async for seal, checkpoint in signed_seals(session, 0):
        checker.begin(seal)
        async for batch, rows, sealed in batches_between(session, seal.from_xid, seal.to_xid):
            gone = not rows and month_of(batch.booked_at) in archived
            checker.batch(batch, None if gone else rows, sealed)
        checker.end(checkpoint)
        last = seal
    async for rest, rows, _ in batches_between(session, 0 if last is None else last.to_xid, None):
        checker.unsealed(rest, rows)
    stray = await store.find_stray(session)
    if stray is not None:
        table, row, differs = stray
        raise HistoryAltered(tenant=session.tenant, table=table, row=row, differs=differs)
    return checker.result()


async def archives(session: ReadSession) -> list[Archive]:
    """The tenant's months whose transfers have left the database, in order."""
    return await archive_store.load_archives(session)


async def signed_seals(session: ReadSession, after: int) -> AsyncIterator[tuple[Seal, Checkpoint | None]]:
    """Seals above a number, in order, each with its signature where there is one."""
    while page := await store.load_seals(session, after, _PAGE):
        signatures = await store.load_checkpoints(session, page[0].sequence, page[-1].sequence)
        for seal in page:
            yield seal, signatures.get(seal.sequence)
        after = page[-1].sequence


async def batches_between(
    session: ReadSession, from_xid: int, to_xid: int | None
) -> AsyncIterator[tuple[Batch, list[TransferRow], SealedBatch | None]]:
    """Batches of a range of transactions by number, each with its transfers and with what was kept when it was sealed."""
    after = 0
    while True:
        if to_xid is None:
            page = await store.load_rest(session, from_xid, after=after, limit=_PAGE)
        else:
            page = await store.load_range(session, from_xid, to_xid, after=after, limit=_PAGE)
        if not page:
            return
        ids = [batch.id for batch in page]
        transfers, sealed = await store.load_transfers(session, ids), await store.load_sealed(session, ids)
        for batch in page:
            yield batch, transfers[batch.id], sealed.get(batch.id)
        after = page[-1].id
