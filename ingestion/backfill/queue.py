"""The backfills that registrations asked for, carried out one after the other beside a worker's live loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError

from custody.db.session import Database
from custody.deposits.model import Caution
from custody.kernel.assetid import ChainId
from custody.kernel.errors import InvariantViolated, Unavailable
from ingestion.backfill import service
from ingestion.backfill.model import Backfill
from ingestion.backfill.run import fill
from ingestion.beside import beside
from ingestion.effects import Tally
from ingestion.errors import BackfillTaken, FenceLost
from ingestion.pause import pause
from ingestion.ports import ChainSource
from ingestion.retry import may_retry

POLL_S = 1.0
"""How often the queue looks for new ranges."""

_log = structlog.get_logger(__name__)


OpenSource = Callable[[], ChainSource]
"""Opens a source of the chain's blocks for a backfill: one of its own, since a source may read ahead of whom it serves."""


@asynccontextmanager
async def filling(
    db: Database, chain: ChainId, open_source: OpenSource, caution: Caution, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Meanwhile, fill in what registrations asked for; `caution`: what is left to the live loop to book. What ends this
    unexpectedly sets `stop` and is raised at the end."""
    async with beside(drain(db, chain, open_source, caution, stop), stop):
        yield


async def drain(
    db: Database, chain: ChainId, open_source: OpenSource, caution: Caution, stop: asyncio.Event
) -> None:
    """Carry out what is open, again and again until `stop`. One that is halted waits for the next start, or for an operator."""
    halted: set[UUID] = set()
    while not stop.is_set():
        try:
            async with db.read(None) as session:
                found = await service.find_open(session, chain)
            waiting = [each for each in found if each.registered and each.id not in halted]
            if waiting:
                halted |= await _carry_out(db, open_source, waiting, caution, stop)
        except (Unavailable, DBAPIError, OSError) as error:
            if not may_retry(error):
                raise
            _log.warning("ingestion.backfill_waits", chain=chain, error=str(error)[:300])
        await pause(stop, POLL_S)


async def _carry_out(
    db: Database, open_source: OpenSource, waiting: list[Backfill], caution: Caution, stop: asyncio.Event
) -> set[UUID]:
    """One after the other, through one source. Returns those that cannot go on without somebody's help."""
    halted = set()
    source = open_source()
    try:
        await source.verify_network()
        for backfill in waiting:
            if not await _try(db, source, backfill, caution, stop):
                halted.add(backfill.id)
    finally:
        await source.aclose()
    return halted


async def _try(
    db: Database, source: ChainSource, backfill: Backfill, caution: Caution, stop: asyncio.Event
) -> bool:
    """False when it is halted: the live loop goes on, and operators are told."""
    bound = _log.bind(chain=source.chain, account=backfill.account, first=backfill.first, last=backfill.last)
    try:
        after = await fill(db, source, backfill.id, caution=caution, stop=stop, told=_say_nothing)
    except (BackfillTaken, FenceLost):
        bound.info("ingestion.backfill_elsewhere")
    except InvariantViolated as error:
        bound.critical("ingestion.backfill_halted", code=error.code, error=str(error))
        return False
    else:
        bound.info("ingestion.backfilled", done=after.is_done, next=after.next)
    return True


def _say_nothing(_backfill: Backfill, _tally: Tally) -> None:
    """Progress is in the database."""
