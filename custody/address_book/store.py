"""SQL of the address book. What counts is judged by the database's clock, which wrote the times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, insert, or_, select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.address_book.model import Entry, Receiver, Restriction, Scope
from custody.address_book.tables import entries, restrictions, words
from custody.address_book.transitions import ENTRIES
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId

_confirmed = words.alias("confirmed")
_removed = words.alias("removed")
_WHOLE = (
    select(
        entries,
        _confirmed.c.actor.label("confirmed_by"),
        _confirmed.c.counts_from,
        _removed.c.actor.label("removed_by"),
    )
    .outerjoin(
        _confirmed,
        (_confirmed.c.tenant_id == entries.c.tenant_id)
        & (_confirmed.c.entry_id == entries.c.id)
        & (_confirmed.c.event == "confirm"),
    )
    .outerjoin(
        _removed,
        (_removed.c.tenant_id == entries.c.tenant_id)
        & (_removed.c.entry_id == entries.c.id)
        & (_removed.c.event == "remove"),
    )
)


async def insert_entry(
    uow: UnitOfWork, entry_id: UUID, receiver: Receiver, label: str, proposed_by: str
) -> bool:
    """Write a proposal. Returns whether it is new."""
    rows = await uow.conn.execute(
        upsert(entries)
        .values(
            tenant_id=uow.tenant,
            id=entry_id,
            chain=receiver.chain,
            address=receiver.address,
            memo_type=receiver.memo_type,
            memo=receiver.memo,
            label=label,
            proposed_by=proposed_by,
        )
        .on_conflict_do_nothing()
        .returning(entries.c.id)
    )
    return rows.one_or_none() is not None


async def insert_word(uow: UnitOfWork, entry: Entry, event: str, actor: str, wait_s: int | None) -> None:
    """Say something about an entry. The caller has locked it by name."""
    counts = None if wait_s is None else func.clock_timestamp() + timedelta(seconds=wait_s)
    await uow.conn.execute(
        insert(words).values(
            tenant_id=uow.tenant,
            entry_id=entry.id,
            event=event,
            proposed_by=entry.proposed_by,
            actor=actor,
            counts_from=counts,
        )
    )


async def load_entry(session: ReadSession, entry_id: UUID) -> Entry | None:
    """One entry of this tenant."""
    rows = await session.conn.execute(
        _WHOLE.where(entries.c.tenant_id == session.tenant, entries.c.id == entry_id)
    )
    row = rows.one_or_none()
    return None if row is None else _entry(row)


async def load_entries(session: ReadSession, after: int, limit: int) -> list[Entry]:
    """Entries in the order in which they were proposed, removed ones too."""
    rows = await session.conn.execute(
        _WHOLE.where(entries.c.tenant_id == session.tenant, entries.c.sequence > after)
        .order_by(entries.c.sequence)
        .limit(limit)
    )
    return [_entry(row) for row in rows]


async def counts_now(session: ReadSession, receiver: Receiver) -> bool:
    """Whether an entry that is confirmed, not removed and old enough has exactly this receiver."""
    rows = await session.conn.execute(
        _WHOLE.where(
            entries.c.tenant_id == session.tenant,
            entries.c.chain == receiver.chain,
            entries.c.address == receiver.address,
            entries.c.memo_type == receiver.memo_type,
            entries.c.memo == receiver.memo,
            _confirmed.c.counts_from <= func.clock_timestamp(),
            _removed.c.actor.is_(None),
        ).limit(1)
    )
    return rows.one_or_none() is not None


async def insert_restriction(
    uow: UnitOfWork, scope: Scope, object_id: UUID, actor: str, *, enabled: bool, wait_s: int
) -> Restriction:
    """Add a row."""
    made = await uow.conn.execute(
        insert(restrictions)
        .values(
            tenant_id=uow.tenant,
            scope=scope,
            object_id=object_id,
            enabled=enabled,
            counts_from=func.clock_timestamp() + timedelta(seconds=wait_s),
            actor=actor,
        )
        .returning(restrictions.c.sequence)
    )
    rows = await uow.conn.execute(
        select(restrictions).where(
            restrictions.c.tenant_id == uow.tenant, restrictions.c.sequence == made.scalar_one()
        )
    )
    return _restriction(rows.one())


async def load_last(session: ReadSession, scope: Scope, object_id: UUID) -> Restriction | None:
    """The newest row about a vault or wallet, whether it counts yet or not."""
    rows = await session.conn.execute(
        _about({scope: object_id}, session).order_by(restrictions.c.sequence.desc()).limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else _restriction(row)


async def load_in_force(session: ReadSession, objects: Mapping[Scope, UUID]) -> list[Restriction]:
    """Of each of these the newest row that counts already."""
    rows = await session.conn.execute(
        _about(objects, session)
        .ext(distinct_on(restrictions.c.scope, restrictions.c.object_id))
        .where(restrictions.c.counts_from <= func.clock_timestamp())
        .order_by(restrictions.c.scope, restrictions.c.object_id, restrictions.c.sequence.desc())
    )
    return [_restriction(row) for row in rows]


async def load_restrictions(session: ReadSession) -> list[Restriction]:
    """The newest row about each vault and wallet, whether it counts yet or not."""
    rows = await session.conn.execute(
        select(restrictions)
        .ext(distinct_on(restrictions.c.scope, restrictions.c.object_id))
        .where(restrictions.c.tenant_id == session.tenant)
        .order_by(restrictions.c.scope, restrictions.c.object_id, restrictions.c.sequence.desc())
    )
    return [_restriction(row) for row in rows]


def _about(objects: Mapping[Scope, UUID], session: ReadSession) -> Select[Any]:
    named = (
        (restrictions.c.scope == scope) & (restrictions.c.object_id == object_id)
        for scope, object_id in objects.items()
    )
    return select(restrictions).where(restrictions.c.tenant_id == session.tenant, or_(*named))


def _entry(row: Row[Any]) -> Entry:
    state = ENTRIES.initial
    for event, actor in (("confirm", row.confirmed_by), ("remove", row.removed_by)):
        state = state if actor is None else ENTRIES.target(state, event)
    return Entry(
        id=row.id,
        sequence=row.sequence,
        receiver=Receiver(
            chain=ChainId(row.chain), address=row.address, memo_type=row.memo_type, memo=row.memo
        ),
        label=row.label,
        state=state,
        proposed_by=row.proposed_by,
        confirmed_by=row.confirmed_by,
        removed_by=row.removed_by,
        counts_from=row.counts_from,
        created_at=row.created_at,
    )


def _restriction(row: Row[Any]) -> Restriction:
    return Restriction(
        sequence=row.sequence,
        scope=row.scope,
        object_id=row.object_id,
        enabled=row.enabled,
        counts_from=row.counts_from,
        actor=row.actor,
        created_at=row.created_at,
    )
