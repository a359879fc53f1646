"""SQL of archives. What is read works in the application's transactions; what is written, in the schema owner's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, insert, select, text

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.ids import TenantId
from custody.seals.archives import begin_of, month_after
from custody.seals.model import Archive, Opening
from custody.seals.tables import ledger_archives as archives
from custody.seals.tables import ledger_openings as openings

SCHEMA = "ledger_archive"
"""Where detached partitions go. Nothing of ours removes them."""
_AS_OWNER = text("SET LOCAL ROLE custody_owner")
_PATIENCE = text("SET LOCAL lock_timeout = '2s'")
# Whoever books locks the transfers before it takes the time of booking (0002), and keeps that lock until its commit: behind this
# one, no transaction has a time of the past and has not committed.
_PAUSE_WRITERS = text("LOCK TABLE ledger_transfers IN ACCESS EXCLUSIVE MODE")
_LATE = text(
    "SELECT EXISTS (SELECT FROM ledger_batches b WHERE b.tenant_id = :tenant"
    " AND b.xid >= CAST(CAST(:to_xid AS text) AS xid8) AND b.booked_at >= :begin AND b.booked_at < :until)"
)
_MONTHS = text(
    "SELECT to_date(substring(c.relname FROM '\\d{4}_\\d{2}$'), 'YYYY_MM') AS month FROM pg_inherits i"
    " JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = CAST('ledger_transfers' AS regclass)"
    " AND c.relname ~ '^ledger_transfers_\\d{4}_\\d{2}$' ORDER BY 1"
)
_OUTSIDE = text(
    "SELECT EXISTS (SELECT FROM ledger_batches b WHERE b.tenant_id = :tenant AND b.booked_at < :until AND NOT EXISTS ("
    "SELECT FROM unnest(CAST(:months AS date[])) AS m(month) WHERE m.month ="
    " CAST(date_trunc('month', b.booked_at AT TIME ZONE 'UTC') AS date)))"
)
_BATCHES = text(
    "SELECT count(*) AS batches, coalesce(sum(b.transfers), 0) AS transfers, max(s.sequence) AS sequence,"
    " count(*) FILTER (WHERE s.sequence IS NULL OR s.sequence > coalesce("
    "(SELECT max(c.sequence) FROM ledger_checkpoints c WHERE c.tenant_id = :tenant), 0)) AS unsigned"
    " FROM ledger_batches b LEFT JOIN ledger_sealed_batches s ON s.tenant_id = b.tenant_id AND s.batch_id = b.id"
    " WHERE b.tenant_id = :tenant AND b.booked_at >= :begin AND b.booked_at < :until"
)
_ROWS = text(
    "SELECT count(*) FROM ledger_transfers t WHERE t.tenant_id = :tenant AND t.booked_at >= :begin AND t.booked_at < :until"
)
_LAST_OPENINGS = text(
    "SELECT DISTINCT ON (o.account_id) o.* FROM ledger_openings o WHERE o.tenant_id = :tenant AND o.month < :month"
    " ORDER BY o.account_id, o.month DESC"
)


async def load_archives(session: ReadSession) -> list[Archive]:
    """The tenant's archived months, in order."""
    rows = await session.conn.execute(
        select(archives).where(archives.c.tenant_id == session.tenant).order_by(archives.c.month)
    )
    return [
        Archive(
            tenant=TenantId(row.tenant_id),
            month=row.month,
            until=row.until,
            dated_to=row.dated_to,
            batches=row.batches,
            transfers=row.transfers,
            sequence=row.sequence,
            directory=row.directory,
            digest=bytes(row.digest),
        )
        for row in rows
    ]


async def load_months(session: ReadSession) -> list[date]:
    """Months that have a partition, in order."""
    return [row.month for row in await session.conn.execute(_MONTHS)]


async def is_outside(session: ReadSession, until: datetime, months: list[date]) -> bool:
    """Whether the tenant has batches before a moment whose months are none of these: they lie in the default partition."""
    named = {"tenant": session.tenant, "until": until, "months": months}
    return bool((await session.conn.execute(_OUTSIDE, named)).scalar_one())


async def count_batches(session: ReadSession, month: date) -> Row[Any]:
    """A month's batches, transfers that these count, last seal, and batches that are under no signed seal."""
    return (await session.conn.execute(_BATCHES, _bounds(session, month))).one()


async def count_rows(session: ReadSession, month: date) -> int:
    """Transfers of a month that are in the database."""
    return int((await session.conn.execute(_ROWS, _bounds(session, month))).scalar_one())


async def load_openings(session: ReadSession, month: date) -> dict[UUID, Opening]:
    """The openings that a month's archive left."""
    rows = await session.conn.execute(
        select(openings).where(openings.c.tenant_id == session.tenant, openings.c.month == month)
    )
    return {row.account_id: _opening(row) for row in rows}


async def load_openings_before(session: ReadSession, month: date) -> dict[UUID, Opening]:
    """Each account's last opening before a month."""
    rows = await session.conn.execute(_LAST_OPENINGS, {"tenant": session.tenant, "month": month})
    return {row.account_id: _opening(row) for row in rows}


async def act_as_owner(uow: UnitOfWork) -> None:
    """Go on in this transaction as the owner of the schema."""
    await uow.conn.execute(_AS_OWNER)


async def pause_writers(uow: UnitOfWork) -> None:
    """Nobody reads or writes transfers until this transaction ends. Waits for those who do, two seconds at most."""
    await uow.conn.execute(_PATIENCE)
    await uow.conn.execute(_PAUSE_WRITERS)


async def is_late(uow: UnitOfWork, to_xid: int, month: date) -> bool:
    """Whether something was booked in a month by a transaction from this number on."""
    named = {"to_xid": str(to_xid), **_bounds(uow, month)}
    return bool((await uow.conn.execute(_LATE, named)).scalar_one())


async def insert_archive(uow: UnitOfWork, archive: Archive, left: Mapping[UUID, Opening]) -> None:
    """Record a month that leaves, and what every account has at its end."""
    values = asdict(archive)
    values["tenant_id"] = values.pop("tenant")
    await uow.conn.execute(insert(archives).values(values))
    await uow.conn.execute(
        insert(openings),
        [
            {"tenant_id": uow.tenant, "account_id": account, "month": archive.month, **asdict(one)}
            for account, one in sorted(left.items())
        ],
    )


async def detach(uow: UnitOfWork, month: date) -> str:
    """Take a month's partition out of the ledger and lay it aside, as unchangeable as it was. Its new name."""
    name = f"ledger_transfers_{month:%Y_%m}"
    aside = f"{SCHEMA}.{name}"
    for statement in (
        f"ALTER TABLE ledger_transfers DETACH PARTITION {name}",
        f"ALTER TABLE {name} SET SCHEMA {SCHEMA}",
        # The parent's row trigger left with the parent.
        f"CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON {aside} FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    ):
        await uow.conn.execute(text(statement))
    return aside


def _bounds(session: ReadSession, month: date) -> dict[str, object]:
    return {"tenant": session.tenant, "begin": begin_of(month), "until": begin_of(month_after(month))}


def _opening(row: Row[Any]) -> Opening:
    return Opening(
        version=row.version,
        debits_posted=int(row.debits_posted),
        credits_posted=int(row.credits_posted),
        debits_pending=int(row.debits_pending),
        credits_pending=int(row.credits_pending),
    )
