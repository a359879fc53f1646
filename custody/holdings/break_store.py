"""SQL of breaks."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, update

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings.compare_store import compared_columns, comparison_of, difference_of
from custody.holdings.model import Comparison, Difference, HoldingBreak
from custody.holdings.store import Key, is_key
from custody.holdings.tables import holding_breaks
from custody.holdings.transitions import HOLDING_BREAKS
from custody.kernel.assetid import ChainId
from custody.kernel.errors import InvariantViolated


async def insert_break(
    uow: UnitOfWork, break_id: UUID, chain: ChainId, opened: Comparison, first: tuple[int, Difference | None]
) -> None:
    """Write a new break."""
    await uow.conn.execute(
        insert(holding_breaks).values(
            tenant_id=uow.tenant,
            id=break_id,
            chain=chain,
            state=HOLDING_BREAKS.initial,
            height=opened.height,
            first_height=first[0],
            first_tx=None if first[1] is None else first[1].tx_hash,
            first_movement=None if first[1] is None else first[1].movement,
            first_chain=None if first[1] is None else first[1].chain,
            first_books=None if first[1] is None else first[1].books,
            difference=opened.difference,
            **compared_columns(opened),
        )
    )


async def close_break(uow: UnitOfWork, break_id: UUID, height: int) -> None:
    """Books and chain are equal again. Raises InvariantViolated when the break is not open."""
    rows = await uow.conn.execute(
        update(holding_breaks)
        .where(
            holding_breaks.c.tenant_id == uow.tenant,
            holding_breaks.c.id == break_id,
            holding_breaks.c.state.in_(HOLDING_BREAKS.sources("close")),
        )
        .values(
            state=HOLDING_BREAKS.target_of("close"),
            closed_height=height,
            closed_at=func.clock_timestamp(),
            difference=0,
        )
    )
    if rows.rowcount != 1:
        raise InvariantViolated("a break to close is not open", id=break_id)


async def count_at(session: ReadSession, key: Key, height: int) -> int:
    """How many breaks of a holding were found at one height."""
    rows = await session.conn.execute(
        select(func.count())
        .select_from(holding_breaks)
        .where(*is_key(holding_breaks, session, key), holding_breaks.c.height == height)
    )
    return int(rows.scalar_one())


async def change_difference(uow: UnitOfWork, break_id: UUID, difference: int) -> None:
    """An open break is of another size now."""
    await uow.conn.execute(
        update(holding_breaks)
        .where(
            holding_breaks.c.tenant_id == uow.tenant,
            holding_breaks.c.id == break_id,
            holding_breaks.c.state == HOLDING_BREAKS.initial,
        )
        .values(difference=difference)
    )


async def load_open_breaks(session: ReadSession, chain: ChainId) -> list[HoldingBreak]:
    """All open breaks of a chain."""
    rows = await session.conn.execute(
        select(holding_breaks)
        .where(
            holding_breaks.c.tenant_id == session.tenant,
            holding_breaks.c.chain == chain,
            holding_breaks.c.state == HOLDING_BREAKS.initial,
        )
        .order_by(holding_breaks.c.sequence)
    )
    return [break_of(row) for row in rows]


async def load_open_break(session: ReadSession, break_id: UUID) -> HoldingBreak | None:
    """One open break."""
    rows = await session.conn.execute(
        select(holding_breaks).where(
            holding_breaks.c.tenant_id == session.tenant,
            holding_breaks.c.id == break_id,
            holding_breaks.c.state == HOLDING_BREAKS.initial,
        )
    )
    row = rows.one_or_none()
    return None if row is None else break_of(row)


async def load_open_of_ids(session: ReadSession, ids: Collection[UUID]) -> list[HoldingBreak]:
    """Those of these breaks that are open."""
    if not ids:
        return []
    rows = await session.conn.execute(
        select(holding_breaks).where(
            holding_breaks.c.tenant_id == session.tenant,
            holding_breaks.c.id.in_(ids),
            holding_breaks.c.state == HOLDING_BREAKS.initial,
        )
    )
    return [break_of(row) for row in rows]


async def load_breaks(
    session: ReadSession, state: str | None, before: int | None, limit: int
) -> list[tuple[int, HoldingBreak]]:
    """Breaks with their places, newest first, before one of them."""
    query = select(holding_breaks).where(holding_breaks.c.tenant_id == session.tenant)
    if state is not None:
        query = query.where(holding_breaks.c.state == state)
    if before is not None:
        query = query.where(holding_breaks.c.sequence < before)
    rows = await session.conn.execute(query.order_by(holding_breaks.c.sequence.desc()).limit(limit))
    return [(row.sequence, break_of(row)) for row in rows]


def break_of(row: Row[Any]) -> HoldingBreak:
    """The break that a row shows."""
    return HoldingBreak(
        id=row.id,
        state=row.state,
        chain=ChainId(row.chain),
        opened=comparison_of(row),
        first_height=row.first_height,
        first=difference_of(row.first_tx, row.first_movement, row.first_chain, row.first_books),
        difference=row.difference,
        opened_at=row.created_at,
        closed_height=row.closed_height,
        closed_at=row.closed_at,
    )
