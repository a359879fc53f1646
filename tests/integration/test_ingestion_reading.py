"""A configuration that would read ingested blocks in another way is refused before anything is read: a payment inside a call has
another place in each way, and would be credited twice."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from custody.db.session import Database
from custody.kernel.clock import SystemClock
from custody.settings import ChainSettings
from devnet.evm import Outsider
from ingestion import cursor
from ingestion.errors import ReadingChanged
from ingestion.health import Status
from ingestion.main import build_source, run_worker
from ingestion.metrics import Metrics
from ingestion.model import BlockRef
from ingestion.pause import pause
from ingestion.reading import hold_reading
from ingestion.tables import ingestion_blocks, ingestion_readings
from tests.integration.evm_stage import CHAIN, evm_settings, node
from tests.integration.ingestion_harness import take_fence

__all__ = ["node"]


pytestmark = pytest.mark.stack

PACE = {"confirmations": 0, "poll_interval_s": 0.05}


async def work(database: Database, chosen: ChainSettings, until: int) -> None:
    """A worker that follows the chain up to a height."""
    source = build_source(chosen, database)
    stop = asyncio.Event()

    async def end() -> None:
        while await highest(database) < until:
            await pause(stop, 0.02)
        stop.set()

    try:
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(end())
            await run_worker(
                database,
                source,
                chosen,
                stop=stop,
                metrics=Metrics(CHAIN, SystemClock()),
                status=Status(silence_s=0),
            )
            ending.cancel()
    finally:
        await source.aclose()


async def highest(database: Database) -> int:
    async with database.read(None) as session:
        rows = await session.conn.execute(select(func.coalesce(func.max(ingestion_blocks.c.height), -1)))
        return int(rows.scalar_one())


async def kept(database: Database) -> int | None:
    async with database.read(None) as session:
        rows = await session.conn.execute(select(ingestion_readings.c.calls_from))
        found: int | None = rows.scalar_one()
    return found


async def test_a_worker_does_not_start_with_another_way_for_blocks_that_it_has(
    database: Database, node: str
) -> None:
    async with Outsider(node) as outsider:
        await outsider.mine(3)
        await work(database, evm_settings(node, **PACE), until=3)
        seen = await highest(database)
        await outsider.mine(1)
    for height in (0, seen):
        with pytest.raises(BaseExceptionGroup) as refused:
            await work(
                database,
                evm_settings(
                    node, confirmations=0, poll_interval_s=0.05, inner_value="debug", inner_value_from=height
                ),
                until=seen + 1,
            )
        assert isinstance(refused.value.exceptions[0], ReadingChanged)
    assert (await highest(database), await kept(database)) == (seen, None)
    # The same from above all that is ingested; the other dialect of traces gives the same places.
    for way in ("debug", "trace"):
        await work(
            database,
            evm_settings(
                node, confirmations=0, poll_interval_s=0.05, inner_value=way, inner_value_from=seen + 1
            ),
            until=seen + 1,
        )
    assert await kept(database) == seen + 1


async def test_a_backfill_cannot_change_the_way_even_above_what_is_ingested(database: Database) -> None:
    fence = await take_fence(database, CHAIN)
    async with database.unit_of_work(None) as uow:
        await hold_reading(uow, CHAIN, 7, may_change=False)
        block = BlockRef(height=9, hash="aa", parent_hash="99", closed_at=datetime(2026, 1, 1, tzinfo=UTC))
        await cursor.advance(uow, CHAIN, fence, None, block)
    for wanted in (None, 0, 8, 10):
        with pytest.raises(ReadingChanged):
            async with database.unit_of_work(None) as uow:
                await hold_reading(uow, CHAIN, wanted, may_change=False)
    async with database.unit_of_work(None) as uow:
        await hold_reading(uow, CHAIN, 7, may_change=False)
    assert await kept(database) == 7
