"""SQL of switches."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from custody.db.pages import in_sequence
from custody.db.session import ReadSession, UnitOfWork
from custody.switches.model import Place, Scope, Switch
from custody.switches.tables import switch_resumes, switch_stops

PROPOSE, CONFIRM = 1, 2
"""Steps of a resume."""
_PROPOSED, _CONFIRMED = switch_resumes.alias("proposed"), switch_resumes.alias("confirmed")


async def insert_stop(uow: UnitOfWork, stop_id: UUID, place: Place, reason: str, actor: str) -> bool:
    """Write a stop. False when the id is taken."""
    rows = await uow.conn.execute(
        insert(switch_stops)
        .values(
            tenant_id=uow.tenant,
            id=stop_id,
            scope=place.scope.value,
            subject=place.subject,
            reason=reason,
            actor=actor,
        )
        .on_conflict_do_nothing()
        .returning(switch_stops.c.id)
    )
    return rows.one_or_none() is not None


async def insert_step(uow: UnitOfWork, stop_id: UUID, step: int, reason: str, actor: str) -> None:
    """Write one of the two steps that end a stop."""
    await uow.conn.execute(
        insert(switch_resumes).values(
            tenant_id=uow.tenant,
            stop_id=stop_id,
            step=step,
            follows=None if step == PROPOSE else PROPOSE,
            reason=reason,
            actor=actor,
        )
    )


async def load_switch(session: ReadSession, stop_id: UUID) -> Switch | None:
    """One switch."""
    rows = await session.conn.execute(_all(session).where(switch_stops.c.id == stop_id))
    row = rows.one_or_none()
    return None if row is None else _switch(row)


async def load_standing_at(session: ReadSession, places: Collection[Place]) -> Switch | None:
    """The oldest switch that stands at one of these places."""
    named = [(place.scope.value, place.subject) for place in places]
    rows = await session.conn.execute(
        _standing(session)
        .where(tuple_(switch_stops.c.scope, switch_stops.c.subject).in_(named))
        .order_by(switch_stops.c.sequence)
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else _switch(row)


async def load_newest(session: ReadSession) -> int:
    """Number of the newest stop, ended or not; 0 where there has never been one."""
    newest = select(func.max(switch_stops.c.sequence)).where(switch_stops.c.tenant_id == session.tenant)
    return (await session.conn.execute(newest)).scalar_one() or 0


async def load_standing(session: ReadSession) -> list[Switch]:
    """Every switch that stands, newest first."""
    rows = await session.conn.execute(_standing(session).order_by(switch_stops.c.sequence.desc()))
    return [_switch(row) for row in rows]


async def load_page(session: ReadSession, *, standing: bool, before: UUID | None, limit: int) -> list[Switch]:
    """A page of all switches, or of those that stand, newest first."""
    query = _standing(session) if standing else _all(session)
    rows = await session.conn.execute(
        in_sequence(query, session, switch_stops, after=before, limit=limit, newest_first=True)
    )
    return [_switch(row) for row in rows]


async def count_standing(session: ReadSession) -> dict[Scope, int]:
    """How many stand, by what they stop."""
    standing = _standing(session).subquery()
    rows = await session.conn.execute(
        select(standing.c.scope, func.count().label("many")).group_by(standing.c.scope)
    )
    return {Scope(row.scope): row.many for row in rows}


def _standing(session: ReadSession) -> Select[Any]:
    return _all(session).where(_CONFIRMED.c.stop_id.is_(None))


def _all(session: ReadSession) -> Select[Any]:
    def step(one: Any, number: int) -> Any:
        return and_(
            one.c.tenant_id == switch_stops.c.tenant_id,
            one.c.stop_id == switch_stops.c.id,
            one.c.step == number,
        )

    return (
        select(
            switch_stops,
            _PROPOSED.c.actor.label("proposed_by"),
            _PROPOSED.c.created_at.label("proposed_at"),
            _CONFIRMED.c.actor.label("resumed_by"),
            _CONFIRMED.c.created_at.label("resumed_at"),
        )
        .select_from(switch_stops)
        .outerjoin(_PROPOSED, step(_PROPOSED, PROPOSE))
        .outerjoin(_CONFIRMED, step(_CONFIRMED, CONFIRM))
        .where(switch_stops.c.tenant_id == session.tenant)
    )


def _switch(row: Row[Any]) -> Switch:
    return Switch(
        id=row.id,
        place=Place(Scope(row.scope), row.subject),
        reason=row.reason,
        stopped_by=row.actor,
        stopped_at=row.created_at,
        proposed_by=row.proposed_by,
        proposed_at=row.proposed_at,
        resumed_by=row.resumed_by,
        resumed_at=row.resumed_at,
    )
