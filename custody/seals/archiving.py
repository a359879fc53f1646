"""Take old months out of the database: exported, verified from the files, recorded, and only then detached.

Nothing is dropped. The files are written in the verifiable form of `export`; what accounts had at a month's end is derived from
them, not from the rows that leave. Recording and detaching are one transaction of the schema's owner; a crash before it leaves
files that the next run goes on from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from hashlib import sha256
from pathlib import Path
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from custody.audit import service as audit
from custody.db.session import Database, UnitOfWork
from custody.identity.service import list_tenants
from custody.kernel.ids import TenantId, derived_uuid
from custody.seals import archive_store, export, publication, store
from custody.seals.archives import (
    MonthSums,
    Openings,
    begin_of,
    carry,
    demand_equal,
    month_after,
    month_of,
    sum_month,
)
from custody.seals.check import Message
from custody.seals.errors import (
    ArchiveDiffers,
    LedgerInUse,
    MonthNotOver,
    MonthNotPartitioned,
    MonthNotSealed,
    NotSealed,
)
from custody.seals.model import Archive, TransferRow

ACTOR = "custody ledger archive"
Told = Callable[[str], None]
_LOCK_NOT_AVAILABLE = "55P03"


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What archiving works with."""

    app: Database
    """Reads, as the application."""
    admin: Database
    """Detaches: as a role that may become the schema's owner."""
    folder: Path
    """Where the files go."""
    message: Message
    """The bytes that a checkpoint key signs."""
    trusted: frozenset[bytes]
    """Keys whose checkpoints count."""
    told: Told
    """Is told each step that is done."""


async def archive_before(means: Means, before: date, now: datetime) -> list[Archive]:
    """Archive every month before one, the oldest first; what was recorded.

    Raises MonthNotOver, MonthNotPartitioned and MonthNotSealed before anything is taken out, LedgerInUse, HistoryAltered,
    ArchiveDiffers.
    """
    if begin_of(before) > now:
        raise MonthNotOver(before=before.isoformat(), now=now.isoformat())
    async with means.app.read(None) as session:
        tenants = await list_tenants(session)
        months = await archive_store.load_months(session)
    leaving = [month for month in months if month < before]
    for tenant in tenants:
        await _demand_ready(means, tenant, leaving, before)
    if not leaving:
        return []
    for tenant in tenants:
        await _publish(means, tenant)
        async with means.app.read(tenant) as session:
            await export.export(session, means.folder, export.exported_to(means.folder, tenant))
    found = (
        export.verify_export(means.folder, means.message, means.trusted) if _any_files(means.folder) else {}
    )
    for tenant, verified in found.items():
        means.told(f"tenant {tenant}: {verified.transfers} transfers verify from the files in {means.folder}")
    recorded = []
    for month in leaving:
        recorded += await _archive_month(means, tenants, month)
    return recorded


async def _demand_ready(means: Means, tenant: TenantId, leaving: Sequence[date], before: date) -> None:
    async with means.app.read(tenant) as session:
        gone = [archive.month for archive in await archive_store.load_archives(session)]
        if await archive_store.is_outside(session, begin_of(before), [*gone, *leaving]):
            raise MonthNotPartitioned(tenant=tenant, before=before.isoformat())
        for month in leaving:
            held = await archive_store.count_batches(session, month)
            if held.unsigned:
                raise MonthNotSealed(tenant=tenant, month=month.isoformat(), batches=held.unsigned)


async def _publish(means: Means, tenant: TenantId) -> None:
    """What is owed is derived from transfers since the last publication, so it is published before they leave."""
    async with means.app.unit_of_work(tenant) as uow:
        with contextlib.suppress(NotSealed):  # nothing was ever booked
            await publication.publish(uow, ACTOR)


def _any_files(folder: Path) -> bool:
    return folder.exists() and any(folder.glob("*.seals.jsonl"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaving:
    """A tenant's part of a month that leaves."""

    archive: Archive
    """What is recorded of it."""
    openings: Openings
    """What its accounts have at its end."""
    to_xid: int
    """Everything booked by transactions below is in the files."""


async def _archive_month(means: Means, tenants: Sequence[TenantId], month: date) -> list[Archive]:
    """One month of all tenants: they share its partition, so they leave together."""
    leaving = [one for tenant in tenants if (one := await _read_leaving(means, tenant, month)) is not None]
    try:
        async with means.admin.unit_of_work(None) as uow:
            await archive_store.act_as_owner(uow)
            for one in leaving:
                await uow.act_for(one.archive.tenant)
                await archive_store.insert_archive(uow, one.archive, one.openings)
                await audit.record(uow, ACTOR, "ledger.archive", _object_id(one.archive), _shown(one.archive))
            # From here on writers wait, so only what cannot be done before is done.
            await archive_store.pause_writers(uow)
            await _demand_nothing_late(uow, leaving, month)
            aside = await archive_store.detach(uow, month)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise LedgerInUse(month=month.isoformat()) from error
        raise
    recorded = [one.archive for one in leaving]
    means.told(
        f"{month:%Y-%m}: {sum(one.transfers for one in recorded)} transfers archived, laid aside in {aside}"
    )
    return recorded


async def _read_leaving(means: Means, tenant: TenantId, month: date) -> _Leaving | None:
    """The tenant's part as the verified files have it, which is all that the database has. None when there is nothing."""
    async with means.app.read(tenant) as session:
        held = await archive_store.count_batches(session, month)
        if not held.batches:
            return None
        there = await archive_store.count_rows(session, month)
        before = await archive_store.load_openings_before(session, month)
        (seal,) = await store.load_seals(session, export.exported_to(means.folder, tenant) - 1, 1)
    sums, digest = read_month(means.folder, tenant, month)
    if (sums.batches, sums.transfers, there) != (held.batches, held.transfers, held.transfers):
        raise ArchiveDiffers("the files do not hold all of the month", tenant=tenant, month=month.isoformat())
    archive = Archive(
        tenant=tenant,
        month=month,
        until=begin_of(month_after(month)),
        dated_to=sums.dated_to,
        batches=sums.batches,
        transfers=sums.transfers,
        sequence=held.sequence,
        directory=_place(means.folder),
        digest=digest,
    )
    return _Leaving(archive=archive, openings=carry(before, sums.accounts), to_xid=seal.to_xid)


async def _demand_nothing_late(uow: UnitOfWork, leaving: Sequence[_Leaving], month: date) -> None:
    """Raises MonthNotSealed when something was booked in the month after its files were written."""
    known = {one.archive.tenant: one.to_xid for one in leaving}
    for tenant in await list_tenants(uow):
        await uow.act_for(tenant)
        if await archive_store.is_late(uow, known.get(tenant, 0), month):
            raise MonthNotSealed(tenant=tenant, month=month.isoformat())


def _object_id(archive: Archive) -> UUID:
    return derived_uuid("ledger-archive", archive.tenant, archive.month.isoformat())


def _shown(archive: Archive) -> dict[str, object]:
    return {
        "month": archive.month.isoformat(),
        "transfers": archive.transfers,
        "digest": archive.digest.hex(),
    }


def _place(folder: Path) -> str:
    return str(folder.absolute())


def read_month(folder: Path, tenant: TenantId, month: date) -> tuple[MonthSums, bytes]:
    """What the files hold of a month, and the digest of those files. They are verified before. Raises UnreadableExport."""
    pieces: dict[Path, None] = {}
    sums = sum_month(_rows_of(folder, tenant, month, pieces))
    seen = sha256()
    for piece in pieces:
        for file in export.piece_files(piece):
            seen.update(f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n".encode())
    return sums, seen.digest()


def _rows_of(folder: Path, tenant: TenantId, month: date, pieces: dict[Path, None]) -> Iterator[TransferRow]:
    """The month's transfers; notes in `pieces` where they are."""
    for piece, row in export.read_transfers(folder, tenant):
        if month_of(row["booked_at"]) == month:
            pieces[piece] = None
            yield row


async def check_archives(
    app: Database, tenant: TenantId, folder: Path
) -> tuple[list[Archive], list[Archive]]:
    """The tenant's archived months whose files in the directory make what the database recorded, and those archived elsewhere.

    The files are verified before. Raises ArchiveDiffers, naming the month and the first account.
    """
    held, elsewhere = [], []
    async with app.read(tenant) as session:
        for archive in await archive_store.load_archives(session):
            sums, digest = read_month(folder, tenant, archive.month)
            if not sums.transfers and archive.directory != _place(folder):
                elsewhere.append(archive)
                continue
            named = {"tenant": tenant, "month": archive.month.isoformat()}
            if (sums.batches, sums.transfers) != (archive.batches, archive.transfers):
                raise ArchiveDiffers("the files do not hold all of the month", **named)
            if digest != archive.digest:
                raise ArchiveDiffers("the files are others than those recorded", **named)
            before = await archive_store.load_openings_before(session, archive.month)
            recorded = await archive_store.load_openings(session, archive.month)
            demand_equal(tenant, archive.month, recorded, carry(before, sums.accounts))
            held.append(archive)
    return held, elsewhere
