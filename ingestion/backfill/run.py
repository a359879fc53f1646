"""Carry out one backfill: fetch a chunk with no transaction open, then book it and move on in one, until the range is done.

Killed anywhere, it goes on where its last commit left it, and ends with the same rows: progress is written in the transaction of
what it booked, and what is booked twice is known by its place. A lease spares two processes the work, a fence keeps the slower
of them from writing. The live loop may run beside it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from custody.db.session import Database, UnitOfWork
from custody.deposits.model import Caution
from custody.identity import service as identity
from custody.kernel.errors import InvariantViolated, Unavailable
from custody.kernel.ids import TenantId
from custody.wallets import service as wallets
from ingestion import cursor, effects, settling
from ingestion.backfill import store
from ingestion.backfill.model import EVERY_VAULT, Backfill
from ingestion.backoff import backoff
from ingestion.errors import BackfillTaken, BrokenHashChain, FenceLost, InconsistentNode, MissingBlock
from ingestion.lease import Lease, this_process
from ingestion.model import BlockFacts, BlockRef
from ingestion.pause import pause
from ingestion.ports import ChainSource
from ingestion.retry import may_retry

TRIES_MAX = 6
"""Failures in a row after which a backfill ends with the failure: with the pauses between them about half a minute."""

Told = Callable[[Backfill, effects.Tally], None]
"""Is told of every chunk that was booked."""

_log = structlog.get_logger(__name__)


async def fill(
    db: Database,
    source: ChainSource,
    backfill_id: UUID,
    *,
    caution: Caution,
    stop: asyncio.Event,
    told: Told,
    tries_max: int = TRIES_MAX,
) -> Backfill:
    """Read the range to its end, or until `stop`; the backfill as it then stands. `caution`: what the live loop is left to book.

    Raises BackfillTaken while another process has it; MissingBlock, HistoryLost, BrokenHashChain, UnprovedTransaction and what
    else breaks an invariant, and notes the reason; FenceLost when another process took it over; after `tries_max` failures in a
    row the failure itself.
    """
    async with Lease(db, source.chain, backfill_id) as lease:
        if not await lease.take():
            raise BackfillTaken(backfill=str(backfill_id))
        async with db.unit_of_work(None) as uow:
            backfill = await store.take_over(uow, backfill_id, this_process())
        try:
            return await _to_the_end(db, source, backfill, caution, stop, told, tries_max)
        except FenceLost:
            raise
        except InvariantViolated as error:
            async with db.unit_of_work(None) as uow:
                await store.halt(uow, backfill, str(error))
            raise


async def _to_the_end(
    db: Database,
    source: ChainSource,
    backfill: Backfill,
    caution: Caution,
    stop: asyncio.Event,
    told: Told,
    tries_max: int,
) -> Backfill:
    # What a process booked that died before it settled.
    await settling.settle_filled(db, backfill.chain, await _concerned(db, backfill), caution)
    failures = 0
    while not backfill.is_done and not stop.is_set():
        try:
            backfill, tally = await fill_chunk(db, source, backfill, caution)
        except (Unavailable, DBAPIError, OSError) as error:
            failures += 1
            if not may_retry(error) or failures >= tries_max:
                raise
            _log.warning(
                "ingestion.backfill_retry", chain=backfill.chain, next=backfill.next, error=str(error)[:300]
            )
            await pause(stop, backoff(failures))
        else:
            failures = 0
            told(backfill, tally)
    return backfill


async def fill_chunk(
    db: Database, source: ChainSource, backfill: Backfill, caution: Caution
) -> tuple[Backfill, effects.Tally]:
    """The next blocks of the range: fetched, compared with our record, booked, settled. Raises MissingBlock, FenceLost."""
    last = min(backfill.last, backfill.next + source.batch_max - 1)
    fetched = await source.fetch(backfill.next, last)
    facts = fetched[: last - backfill.next + 1]
    _demand_every_block(backfill, facts)
    _demand_hash_chain(source, backfill, [each.ref for each in facts])
    if backfill.account != EVERY_VAULT:
        facts = [each.only(backfill.account) for each in facts]
    tip = facts[-1].ref
    async with db.unit_of_work(None) as uow:
        moved = await store.advance(uow, backfill, tip.height + 1, tip.hash)
        await _join_record(uow, source, [each.ref for each in facts])
        named = frozenset[str]().union(*(each.accounts() for each in facts))
        touched = {ref.tenant for ref in await wallets.find_vaults(uow, backfill.chain, named)}
        tally = effects.Tally()
        for each in facts:
            tally += await effects.observe_block(uow, backfill.chain, each)
    # These blocks were final before they were read, all or most: what they brought is booked at once.
    await settling.settle_filled(db, backfill.chain, touched, caution)
    return moved, tally


def _demand_every_block(backfill: Backfill, facts: Sequence[BlockFacts]) -> None:
    """A source that gives less than asked is asked again for the rest; one that leaves a block out has lost it."""
    wanted = backfill.next
    for each in facts:
        if each.ref.height != wanted:
            break
        wanted += 1
    if not facts or wanted != backfill.next + len(facts):
        raise MissingBlock(chain=backfill.chain, height=wanted)


def _demand_hash_chain(source: ChainSource, backfill: Backfill, blocks: Sequence[BlockRef]) -> None:
    below = backfill.stands_on
    for block in blocks:
        if below and block.parent_hash != below:
            raise _broken(source, block, ours=below)
        below = block.hash


async def _join_record(uow: UnitOfWork, source: ChainSource, blocks: Sequence[BlockRef]) -> None:
    """Compare the chunk with the blocks that we know at its heights and at both its ends, and add those that we do not know.

    Where chains reorganise, the cursor is held meanwhile: what is compared stays true until it is booked. Raises BrokenHashChain;
    where chains reorganise InconsistentNode, since asking again may give the blocks that we have.
    """
    chain, first, last = source.chain, blocks[0], blocks[-1]
    position = await cursor.hold(uow, chain) if source.reorganises else None
    known = await cursor.recorded(uow, chain, first.height - 1, last.height + 1)
    for block in blocks:
        if block.height in known and known[block.height].hash != block.hash:
            raise _broken(source, block, ours=known[block.height].hash)
        if position is not None and block.height > position.height:
            # The live loop went back below it, and will come here again.
            raise InconsistentNode(chain=chain, height=block.height, reason="not ingested now")
    below, above = known.get(first.height - 1), known.get(last.height + 1)
    if below is not None and first.parent_hash != below.hash:
        raise _broken(source, first, ours=below.hash)
    if above is not None and above.parent_hash != last.hash:
        raise _broken(source, last, ours=above.parent_hash)
    await cursor.record(uow, chain, [block for block in blocks if block.height not in known])


def _broken(source: ChainSource, block: BlockRef, *, ours: str) -> Exception:
    if source.reorganises:
        return InconsistentNode(chain=source.chain, height=block.height, block=block.hash, ours=ours)
    return BrokenHashChain(chain=source.chain, height=block.height, block=block.hash, ours=ours)


async def _concerned(db: Database, backfill: Backfill) -> list[TenantId]:
    """The tenants whose deposits this backfill may bring."""
    async with db.read(None) as session:
        if backfill.account == EVERY_VAULT:
            return await identity.list_tenants(session)
        found = await wallets.find_vaults(session, backfill.chain, [backfill.account])
    return [ref.tenant for ref in found]
