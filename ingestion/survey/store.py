"""SQL of the survey: how far it is, and from which block on an account's history was read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from ingestion.backfill.model import EVERY_VAULT
from ingestion.tables import ingestion_backfills, ingestion_cursors, ingestion_surveys


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """How far the survey over a chain's accounts is."""

    number: int
    """The pass under way, from 1."""
    after: str
    """The account that was compared last in it; empty at its beginning."""
    height: int
    """The final block at which that was."""
    since_height: int
    """The final block at which the pass began: whatever was compared in it was compared there or above."""
    trouble: str
    """Why the node could not be asked the last time; empty while it can."""
    started_at: datetime
    """When the pass began."""
    ended_at: datetime | None
    """When the last whole pass ended; None before the first."""


async def load(session: ReadSession, chain: ChainId) -> Survey | None:
    """How far it is; None before the first account."""
    rows = await session.conn.execute(select(ingestion_surveys).where(ingestion_surveys.c.chain == chain))
    row = rows.one_or_none()
    if row is None:
        return None
    return Survey(
        number=row._mapping["pass"],
        after=row.after,
        height=row.height,
        since_height=row.since_height,
        trouble=row.trouble,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


async def advance(uow: UnitOfWork, chain: ChainId, height: int, after: str) -> None:
    """Every account up to this one was compared at a final height."""
    values = {"after": after, "height": height, "trouble": "", "updated_at": func.clock_timestamp()}
    await uow.conn.execute(
        upsert(ingestion_surveys)
        .values(chain=chain, since_height=height, **{"pass": 1}, **values)
        .on_conflict_do_update(index_elements=["chain"], set_=values)
    )


async def end_pass(uow: UnitOfWork, chain: ChainId, height: int) -> None:
    """Every account was compared; the next pass begins at this height."""
    now = func.clock_timestamp()
    values = {
        "after": "",
        "height": height,
        "since_height": height,
        "trouble": "",
        "started_at": now,
        "ended_at": now,
        "updated_at": now,
    }
    await uow.conn.execute(
        upsert(ingestion_surveys)
        .values(chain=chain, **{"pass": 2}, **values)
        .on_conflict_do_update(
            index_elements=["chain"], set_={**values, "pass": ingestion_surveys.c["pass"] + 1}
        )
    )


async def note_trouble(uow: UnitOfWork, chain: ChainId, trouble: str) -> None:
    """Why the node cannot be asked."""
    await uow.conn.execute(
        upsert(ingestion_surveys)
        .values(chain=chain, height=0, since_height=0, trouble=trouble, **{"pass": 1})
        .on_conflict_do_update(
            index_elements=["chain"], set_={"trouble": trouble, "updated_at": func.clock_timestamp()}
        )
    )


async def find_unread(session: ReadSession, chain: ChainId, accounts: Collection[str]) -> set[str]:
    """Those of these accounts whose history is still to be read: what they hold is not yet in the books."""
    rows = ingestion_backfills.c
    found = await session.conn.execute(
        select(rows.account).where(
            rows.chain == chain,
            rows.account.in_(list(accounts)),
            or_(rows.last_height.is_(None), rows.next_height <= rows.last_height),
        )
    )
    return set(found.scalars())


async def first_read(session: ReadSession, chain: ChainId, account: str) -> int:
    """The lowest block of the unbroken history that was read for the account: what lay there before came before all books."""
    rows = ingestion_backfills.c
    found = await session.conn.execute(
        select(ingestion_cursors.c.first_height).where(ingestion_cursors.c.chain == chain)
    )
    live = found.scalar_one_or_none() or 0
    filled = await session.conn.execute(
        select(rows.account, rows.registered, rows.created_at, rows.first_height, rows.next_height).where(
            rows.chain == chain, rows.account.in_((account, EVERY_VAULT)), rows.next_height.is_not(None)
        )
    )
    ranges = filled.all()
    registered = next((each for each in ranges if each.registered), None)
    first = live
    if registered is not None:
        # Above its range the live loop reads the account, below it only what was ordered after the registration.
        first = (
            registered.first_height
            if registered.next_height > registered.first_height
            else max(live, registered.next_height)
        )
    since = None if registered is None else registered.created_at
    late = [
        each
        for each in ranges
        if not each.registered and (each.account == account or since is None or each.created_at > since)
    ]
    for each in sorted(late, key=lambda one: one.first_height, reverse=True):
        if each.first_height < first <= each.next_height:
            first = each.first_height
    return int(first)
