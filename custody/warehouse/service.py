"""Which entries come next, and reading them. Each function works in a short transaction of its own."""

from __future__ import annotations

from collections import Counter

from custody.db.session import ReadSession
from custody.seals import service as seals
from custody.seals.archives import month_of
from custody.warehouse import store
from custody.warehouse.errors import EntriesArchived, EntriesMissing, StandbyRefused, WarehouseSourceDiffers
from custody.warehouse.model import BatchRef, Page, TenantExport, Wave

_BATCHES_PER_PAGE = 1_000


async def source(session: ReadSession) -> str:
    """Which database this is."""
    return await store.load_source(session)


async def next_wave(session: ReadSession, done: TenantExport) -> Wave:
    """What is left of the wave under way, or else the wave of what the database shows now.

    Raises StandbyRefused, and WarehouseSourceDiffers when the last batch that was exported is not in this database.
    """
    position = done.position
    shown, standby, behind = await store.load_snapshot(session, position.upto or position.seen)
    if standby:
        raise StandbyRefused
    last = done.files[-1] if done.files else None
    root = None if last is None else await store.load_root(session, last.last_batch)
    if behind or (last is not None and (root is None or root.hex() != last.last_root)):
        raise WarehouseSourceDiffers(tenant=session.tenant, batch=None if last is None else last.last_batch)
    wave = await store.load_wave(
        session, seen=position.seen, upto=position.upto or shown, after=position.after
    )
    if position.upto is not None and not wave.batches:
        raise WarehouseSourceDiffers("the wave under way holds nothing more", tenant=session.tenant)
    return wave


async def read_page(
    session: ReadSession, wave: Wave, *, after: int, batches_max: int, transfers_max: int
) -> Page:
    """The wave's next batches above one of them, with all their transfers; at least one, and within the limits where they let.

    Raises EntriesArchived, and EntriesMissing when a batch does not hold what it counts.
    """
    page = await store.load_page(
        session,
        wave,
        after=after,
        batches_max=min(batches_max, _BATCHES_PER_PAGE),
        transfers_max=transfers_max,
    )
    held = Counter(row["batch_id"] for row in page.rows)
    for batch in page.batches:
        if held[batch.id] != batch.transfers:
            await _demand_here(session, batch)
            raise EntriesMissing(
                tenant=session.tenant, batch=batch.id, counted=batch.transfers, found=held[batch.id]
            )
    return page


async def _demand_here(session: ReadSession, batch: BatchRef) -> None:
    month = month_of(batch.booked_at)
    for archive in await seals.archives(session):
        if archive.month == month:
            raise EntriesArchived(
                tenant=session.tenant, month=f"{month:%Y-%m}", archived_to=archive.directory
            )
