"""Blocks that are ingested are read again as they were read: a payment that is seen in two ways would be two deposits.

Value inside calls has two places: with its transaction where calls are read, with its block and account where only balances are
(`docs/evm-blocks.md`). So the height from which calls are read is kept, and can change only above all blocks of our record, by
the worker that holds the chain. Chains that are read in one way keep None.
"""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import UnitOfWork
from custody.kernel.assetid import ChainId
from ingestion.errors import ReadingChanged
from ingestion.tables import ingestion_blocks, ingestion_readings


def read_alike(kept: int | None, wanted: int | None, highest: int) -> bool:
    """Whether two heights from which calls are read (None: never) come to the same for every block up to the highest. Pure."""
    above = highest + 1
    return min(above if kept is None else kept, above) == min(above if wanted is None else wanted, above)


async def hold_reading(uow: UnitOfWork, chain: ChainId, calls_from: int | None, *, may_change: bool) -> None:
    """Keep how the chain's blocks are read. Call it before any is fetched; raises ReadingChanged.

    `may_change`: the caller is the worker that has just taken the chain over, so that nobody else reads blocks meanwhile.
    """
    columns = ingestion_readings.c
    await uow.conn.execute(
        upsert(ingestion_readings).values(chain=chain, calls_from=calls_from).on_conflict_do_nothing()
    )
    rows = await uow.conn.execute(select(columns.calls_from).where(columns.chain == chain).with_for_update())
    kept = rows.scalar_one()
    if kept == calls_from:
        return
    rows = await uow.conn.execute(
        select(func.coalesce(func.max(ingestion_blocks.c.height), -1)).where(
            ingestion_blocks.c.chain == chain
        )
    )
    highest = rows.scalar_one()
    if not may_change or not read_alike(kept, calls_from, highest):
        raise ReadingChanged(chain=chain, kept=kept, wanted=calls_from, highest=highest)
    await uow.conn.execute(
        update(ingestion_readings)
        .where(columns.chain == chain)
        .values(calls_from=calls_from, updated_at=func.clock_timestamp())
    )
