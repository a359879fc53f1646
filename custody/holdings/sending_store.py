"""SQL of whether chains are followed. Of no tenant, like halts."""

from __future__ import annotations

from sqlalchemy import exists, func, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings.tables import chain_halts, chains_followed
from custody.holdings.transitions import CHAIN_HALTS
from custody.kernel.assetid import ChainId

_followed = chains_followed.c


async def load_standing(session: ReadSession, chain: ChainId) -> tuple[bool, bool, float | None]:
    """Whether it is halted; whether a worker ever took it over; how many seconds ago one was at the tip, None for never."""
    asked = select(literal(chain).label("chain")).subquery("asked")
    open_halt = exists().where(
        chain_halts.c.chain == chain, chain_halts.c.state.not_in(sorted(CHAIN_HALTS.terminal))
    )
    rows = await session.conn.execute(
        select(
            (open_halt | (func.coalesce(_followed.stopped, "") != "")).label("halted"),
            _followed.chain.is_not(None).label("known"),
            (func.clock_timestamp() - _followed.followed_at).label("idle"),
        ).select_from(asked.outerjoin(chains_followed, _followed.chain == asked.c.chain))
    )
    row = rows.one()
    return row.halted, row.known, None if row.idle is None else row.idle.total_seconds()


async def load_trouble(session: ReadSession, chain: ChainId) -> str:
    """Why its worker ended; empty where it did not."""
    rows = await session.conn.execute(select(_followed.stopped).where(_followed.chain == chain))
    return rows.scalar_one_or_none() or ""


async def write_followed(uow: UnitOfWork, chain: ChainId, fence: int, idle_s: float | None) -> None:
    """When a worker was at the tip last. What is older than what is known changes nothing of it."""
    at = None
    if idle_s is not None:
        at = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, idle_s)
    statement = upsert(chains_followed).values(chain=chain, fence=fence, followed_at=at)
    new = statement.excluded
    changes = {"fence": new.fence, "followed_at": func.greatest(_followed.followed_at, new.followed_at)}
    await uow.conn.execute(
        statement.on_conflict_do_update(
            index_elements=["chain"],
            set_=changes if at is None else changes | {"stopped": ""},
            where=_followed.fence <= new.fence,
        )
    )


async def write_stopped(uow: UnitOfWork, chain: ChainId, fence: int, code: str) -> None:
    """Why a worker ended, unless a later one has spoken."""
    statement = upsert(chains_followed).values(chain=chain, fence=fence, stopped=code)
    new = statement.excluded
    await uow.conn.execute(
        statement.on_conflict_do_update(
            index_elements=["chain"],
            set_={"fence": new.fence, "stopped": new.stopped},
            where=_followed.fence <= new.fence,
        )
    )
