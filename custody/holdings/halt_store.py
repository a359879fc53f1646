"""SQL of halts. These rows belong to no tenant: they speak of a chain, of nobody's money."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select, update

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings.model import ChainHalt, Fork
from custody.holdings.tables import chain_halts
from custody.holdings.transitions import CHAIN_HALTS
from custody.kernel.assetid import ChainId
from custody.kernel.errors import InvariantViolated

_OPEN = tuple(state for state in CHAIN_HALTS.states if state not in CHAIN_HALTS.terminal)
_FORK = ("fork_height", "fork_hash", "our_height", "our_hash", "final_height", "seen_height", "seen_hash")


async def insert_halt(uow: UnitOfWork, halt_id: UUID, fork: Fork, trouble: str) -> ChainHalt:
    """Write a new halt. A chain has one at a time."""
    rows = await uow.conn.execute(
        insert(chain_halts)
        .values(
            id=halt_id,
            state=CHAIN_HALTS.initial,
            trouble=trouble,
            changed_at=func.clock_timestamp(),
            **columns_of(fork),
        )
        .returning(chain_halts)
    )
    return _halt(rows.one())


async def lock_halt(uow: UnitOfWork, halt_id: UUID) -> ChainHalt | None:
    """One halt, its row locked."""
    rows = await uow.conn.execute(select(chain_halts).where(chain_halts.c.id == halt_id).with_for_update())
    row = rows.one_or_none()
    return None if row is None else _halt(row)


async def load_open(session: ReadSession, chain: ChainId) -> ChainHalt | None:
    """The chain's halt that has not ended; None while it runs."""
    rows = await session.conn.execute(
        select(chain_halts).where(chain_halts.c.chain == chain, chain_halts.c.state.in_(_OPEN))
    )
    row = rows.one_or_none()
    return None if row is None else _halt(row)


async def load_halts(session: ReadSession, chain: ChainId, limit: int) -> list[ChainHalt]:
    """A chain's halts, newest first."""
    rows = await session.conn.execute(
        select(chain_halts)
        .where(chain_halts.c.chain == chain)
        .order_by(chain_halts.c.sequence.desc())
        .limit(limit)
    )
    return [_halt(row) for row in rows]


async def change_halt(uow: UnitOfWork, halt_id: UUID, event: str, **values: Any) -> ChainHalt:
    """Carry out one transition. Raises InvariantViolated when the state does not allow it."""
    rows = await uow.conn.execute(
        update(chain_halts)
        .where(chain_halts.c.id == halt_id, chain_halts.c.state.in_(CHAIN_HALTS.sources(event)))
        .values(state=CHAIN_HALTS.target_of(event), changed_at=func.clock_timestamp(), **values)
        .returning(chain_halts)
    )
    row = rows.one_or_none()
    if row is None:
        raise InvariantViolated("a halt is not in a state for this", id=halt_id, event=event)
    return _halt(row)


def columns_of(fork: Fork) -> dict[str, object]:
    """A fork as columns."""
    return {"chain": fork.chain, **{name: getattr(fork, name) for name in _FORK}}


def _halt(row: Row[Any]) -> ChainHalt:
    return ChainHalt(
        id=row.id,
        state=row.state,
        fork=Fork(chain=ChainId(row.chain), **{name: getattr(row, name) for name in _FORK}),
        decided_by=row.decided_by,
        note=row.note,
        marks_spent=row.marks_spent,
        trouble=row.trouble,
        opened_at=row.created_at,
        changed_at=row.changed_at,
    )
