"""Where a chain's ingestion stands: one row, moved by compare-and-swap in the transaction that books the block.

The fence counts the workers that took the chain over. Whoever lost it can still compute, but can no longer write.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.errors import InvariantViolated
from ingestion.errors import CursorMoved, FenceLost
from ingestion.model import BlockRef
from ingestion.reorg import Position
from ingestion.tables import ingestion_blocks, ingestion_cursors


async def take_over(uow: UnitOfWork, chain: ChainId) -> int:
    """Become the one worker that may write; returns the fence to show with every write."""
    rows = await uow.conn.execute(
        upsert(ingestion_cursors)
        .values(chain=chain, fence=1, updated_at=func.clock_timestamp())
        .on_conflict_do_update(
            index_elements=["chain"],
            set_={"fence": ingestion_cursors.c.fence + 1, "updated_at": func.clock_timestamp()},
        )
        .returning(ingestion_cursors.c.fence)
    )
    return int(rows.scalar_one())


async def load(session: ReadSession, chain: ChainId) -> Position | None:
    """The position, or None before the first block."""
    rows = await session.conn.execute(select(ingestion_cursors).where(ingestion_cursors.c.chain == chain))
    row = rows.one_or_none()
    return None if row is None or row.height is None else Position(height=row.height, hash=row.hash)


async def load_block(session: ReadSession, chain: ChainId, position: Position) -> BlockRef:
    """The block at a position of ours. Raises InvariantViolated when it was never recorded."""
    rows = await session.conn.execute(
        select(ingestion_blocks).where(
            ingestion_blocks.c.chain == chain,
            ingestion_blocks.c.height == position.height,
            ingestion_blocks.c.hash == position.hash,
        )
    )
    row = rows.one_or_none()
    if row is None:
        raise InvariantViolated("the cursor stands on a block that was never recorded", chain=chain)
    return BlockRef(height=row.height, hash=row.hash, parent_hash=row.parent_hash, closed_at=row.closed_at)


async def advance(
    uow: UnitOfWork, chain: ChainId, fence: int, before: Position | None, *blocks: BlockRef
) -> Position:
    """Move from a position to the last of the blocks on top of it, lowest first. Raises FenceLost, CursorMoved."""
    after = Position(height=blocks[-1].height, hash=blocks[-1].hash)
    await _swap(uow, chain, fence, before, after, lowest=blocks[0].height)
    await uow.conn.execute(
        # A block that was replaced and has come back.
        upsert(ingestion_blocks).on_conflict_do_update(
            index_elements=["chain", "height", "hash"], set_={"canonical": True}
        ),
        _rows(chain, blocks),
    )
    return after


async def rewind(uow: UnitOfWork, chain: ChainId, fence: int, before: Position, fork: Position) -> None:
    """Move back to the fork point and mark what stood above it as replaced. Raises FenceLost, CursorMoved."""
    await _swap(uow, chain, fence, before, fork, lowest=fork.height)
    await uow.conn.execute(
        update(ingestion_blocks)
        .where(
            ingestion_blocks.c.chain == chain,
            ingestion_blocks.c.height > fork.height,
            ingestion_blocks.c.canonical,
        )
        .values(canonical=False)
    )


async def kept_blocks(session: ReadSession, chain: ChainId, *, up_to: int, limit: int) -> dict[int, str]:
    """Hashes of the newest blocks of our record, from a height downwards."""
    rows = await session.conn.execute(
        select(ingestion_blocks.c.height, ingestion_blocks.c.hash)
        .where(
            ingestion_blocks.c.chain == chain,
            ingestion_blocks.c.height <= up_to,
            ingestion_blocks.c.canonical,
        )
        .order_by(ingestion_blocks.c.height.desc())
        .limit(limit)
    )
    return {row.height: row.hash for row in rows}


async def hold_fence(uow: UnitOfWork, chain: ChainId, fence: int) -> None:
    """Keep the fence from moving until the transaction ends. Raises FenceLost."""
    rows = await uow.conn.execute(
        select(ingestion_cursors.c.fence).where(ingestion_cursors.c.chain == chain).with_for_update(read=True)
    )
    found = rows.scalar_one_or_none()
    if found != fence:
        raise FenceLost(chain=chain, ours=fence, now=found)


async def hold_alone(uow: UnitOfWork, chain: ChainId) -> int:
    """Keep the cursor from moving and everybody else from booking of the chain until the transaction ends. Returns the fence."""
    rows = await uow.conn.execute(
        select(ingestion_cursors.c.fence).where(ingestion_cursors.c.chain == chain).with_for_update()
    )
    return int(rows.scalar_one())


async def hold(uow: UnitOfWork, chain: ChainId) -> Position | None:
    """Keep the cursor, and with it the record of blocks, from moving until the transaction ends. Returns the position."""
    rows = await uow.conn.execute(
        select(ingestion_cursors).where(ingestion_cursors.c.chain == chain).with_for_update(read=True)
    )
    row = rows.one_or_none()
    return None if row is None or row.height is None else Position(height=row.height, hash=row.hash)


async def recorded(session: ReadSession, chain: ChainId, first: int, last: int) -> dict[int, BlockRef]:
    """The blocks of our record from one height to another, both included. Where it has none, none is given."""
    rows = await session.conn.execute(
        select(ingestion_blocks).where(
            ingestion_blocks.c.chain == chain,
            ingestion_blocks.c.height.between(first, last),
            ingestion_blocks.c.canonical,
        )
    )
    return {
        row.height: BlockRef(
            height=row.height, hash=row.hash, parent_hash=row.parent_hash, closed_at=row.closed_at
        )
        for row in rows
    }


async def record(uow: UnitOfWork, chain: ChainId, blocks: Sequence[BlockRef]) -> None:
    """Add blocks below the live run to our record. One that another process added meanwhile stays as it is."""
    if blocks:
        await uow.conn.execute(upsert(ingestion_blocks).values(_rows(chain, blocks)).on_conflict_do_nothing())


def _rows(chain: ChainId, blocks: Sequence[BlockRef]) -> list[dict[str, object]]:
    return [
        {
            "chain": chain,
            "height": block.height,
            "hash": block.hash,
            "parent_hash": block.parent_hash,
            "closed_at": block.closed_at,
            "canonical": True,
        }
        for block in blocks
    ]


async def _swap(
    uow: UnitOfWork, chain: ChainId, fence: int, before: Position | None, after: Position, *, lowest: int
) -> None:
    cursors = ingestion_cursors.c
    rows = await uow.conn.execute(
        update(ingestion_cursors)
        .where(
            cursors.chain == chain,
            cursors.fence == fence,
            cursors.height.is_not_distinct_from(None if before is None else before.height),
            cursors.hash.is_not_distinct_from(None if before is None else before.hash),
        )
        .values(
            height=after.height,
            hash=after.hash,
            # Set by the first block of all; lowered only by a reorganisation that goes below it, into what was filled in.
            first_height=func.least(func.coalesce(cursors.first_height, lowest), lowest),
            updated_at=func.clock_timestamp(),
        )
    )
    if rows.rowcount != 1:
        await hold_fence(uow, chain, fence)
        raise CursorMoved(chain=chain, expected=None if before is None else before.height)
