"""SQL of backfills. These rows belong to no tenant: they speak of accounts and heights of a chain, of nobody's money."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, literal, select, update

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.ids import new_uuid
from ingestion.backfill.model import EVERY_VAULT, Backfill
from ingestion.errors import FenceLost
from ingestion.tables import ingestion_backfills, ingestion_cursors

_rows = ingestion_backfills.c


async def count_unnoticed(session: ReadSession, chain: ChainId) -> int:
    """Registrations whose range the live loop has not closed yet."""
    rows = await session.conn.execute(
        select(func.count()).where(_rows.chain == chain, _rows.last_height.is_(None))
    )
    return int(rows.scalar_one())


async def close_ranges(uow: UnitOfWork, chain: ChainId, last: int) -> None:
    """Give every registration that waits for it its last height, and its first where that was left open: the horizon.

    The horizon is the lowest block that was read, or is to be read, for every vault: the live run's first, or that of a backfill
    for all. The range is empty where nothing lies between.
    """
    horizon = func.least(
        select(ingestion_cursors.c.first_height).where(ingestion_cursors.c.chain == chain).scalar_subquery(),
        select(func.min(_rows.first_height))
        .where(_rows.chain == chain, _rows.account == EVERY_VAULT)
        .scalar_subquery(),
    )
    first = func.least(func.coalesce(_rows.first_height, horizon, last + 1), last + 1)
    await uow.conn.execute(
        update(ingestion_backfills)
        .where(_rows.chain == chain, _rows.last_height.is_(None))
        .values(last_height=last, first_height=first, next_height=first, updated_at=func.clock_timestamp())
    )


async def insert_ordered(uow: UnitOfWork, chain: ChainId, account: str, first: int, last: int) -> Backfill:
    """Write a backfill that an operator ordered."""
    rows = await uow.conn.execute(
        insert(ingestion_backfills)
        .values(
            id=new_uuid(),
            chain=chain,
            account=account,
            registered=False,
            first_height=first,
            last_height=last,
            next_height=first,
        )
        .returning(ingestion_backfills)
    )
    return _backfill(rows.one())


async def find_ordered(session: ReadSession, chain: ChainId, account: str) -> list[Backfill]:
    """All that operators ordered for this account, or for every vault; oldest first."""
    rows = await session.conn.execute(
        select(ingestion_backfills)
        .where(_rows.chain == chain, _rows.account == account, _rows.registered.is_(False))
        .order_by(_rows.created_at, _rows.id)
    )
    return [_backfill(row) for row in rows]


async def find_open(session: ReadSession, chain: ChainId) -> list[Backfill]:
    """Those of the chain that are not done, oldest first. Without the registrations whose range is not closed yet."""
    rows = await session.conn.execute(
        select(ingestion_backfills)
        .where(_rows.chain == chain, _rows.next_height <= _rows.last_height)
        .order_by(_rows.created_at, _rows.id)
    )
    return [_backfill(row) for row in rows]


async def load(session: ReadSession, backfill_id: UUID) -> Backfill:
    """One whose range is closed."""
    rows = await session.conn.execute(select(ingestion_backfills).where(_rows.id == backfill_id))
    return _backfill(rows.one())


async def take_over(uow: UnitOfWork, backfill_id: UUID, holder: str) -> Backfill:
    """Become the one process that may move it; the backfill with the fence to show."""
    rows = await uow.conn.execute(
        update(ingestion_backfills)
        .where(_rows.id == backfill_id)
        .values(
            fence=_rows.fence + 1,
            holder=holder,
            halted="",
            started_at=func.clock_timestamp(),
            started_height=_rows.next_height,
            updated_at=func.clock_timestamp(),
        )
        .returning(ingestion_backfills)
    )
    return _backfill(rows.one())


async def advance(uow: UnitOfWork, before: Backfill, next_height: int, stands_on: str) -> Backfill:
    """Move on, if the backfill is where this process left it and the fence is its own. Raises FenceLost."""
    rows = await uow.conn.execute(
        update(ingestion_backfills)
        .where(_rows.id == before.id, _rows.fence == before.fence, _rows.next_height == before.next)
        .values(next_height=next_height, stands_on=stands_on, updated_at=func.clock_timestamp())
        .returning(ingestion_backfills)
    )
    row = rows.one_or_none()
    if row is None:
        now = await load(uow, before.id)
        raise FenceLost(chain=before.chain, ours=before.fence, now=now.fence, backfill=str(before.id))
    return _backfill(row)


async def halt(uow: UnitOfWork, backfill: Backfill, reason: str) -> None:
    """Note why it cannot go on. Nothing is written by who lost the fence."""
    await uow.conn.execute(
        update(ingestion_backfills)
        .where(_rows.id == backfill.id, _rows.fence == backfill.fence)
        .values(halted=reason, updated_at=func.clock_timestamp())
    )


async def covered(session: ReadSession, chain: ChainId, *, ordered: bool = False) -> list[tuple[int, int]]:
    """What is booked for every vault, as ranges with both ends included, lowest first: one range means that there is no hole.

    The live run counts from its first block to the cursor; of each backfill for every vault, what is booked of it, or, with
    `ordered`, all of it.
    """
    live = select(
        func.int8range(ingestion_cursors.c.first_height, ingestion_cursors.c.height, "[]").label("part")
    ).where(ingestion_cursors.c.chain == chain, ingestion_cursors.c.height.is_not(None))
    end = _rows.last_height + 1 if ordered else _rows.next_height
    filled = select(func.int8range(_rows.first_height, end, "[)")).where(
        _rows.chain == chain, _rows.account == EVERY_VAULT, end > _rows.first_height
    )
    parts = live.union_all(filled).subquery()
    merged = select(func.unnest(func.range_agg(parts.c.part)).label("whole")).subquery()
    rows = await session.conn.execute(
        select(func.lower(merged.c.whole), func.upper(merged.c.whole) - literal(1)).order_by(
            func.lower(merged.c.whole)
        )
    )
    return [(int(row[0]), int(row[1])) for row in rows]


def _backfill(row: Row[Any]) -> Backfill:
    return Backfill(
        id=row.id,
        chain=ChainId(row.chain),
        account=row.account,
        registered=row.registered,
        first=row.first_height,
        last=row.last_height,
        next=row.next_height,
        stands_on=row.stands_on,
        fence=row.fence,
        holder=row.holder,
        halted=row.halted,
        started_at=row.started_at,
        started=row.started_height,
        updated_at=row.updated_at,
    )
