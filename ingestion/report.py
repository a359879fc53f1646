"""What a worker says of itself in the database, once a second: who it is, and its gauges. `custody ingest status` reads it there.

The report is for operators only: nothing is decided by it. With it goes when the chain was followed to its tip, by which sending
is held back (`custody/holdings/sending.py`). Both carry the fence, so that a worker that lost the chain does not write over the
one that has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import DBAPIError

from custody.db.session import Database, ReadSession, UnitOfWork
from custody.holdings import sending
from custody.kernel.assetid import ChainId
from ingestion.beside import beside
from ingestion.health import Status
from ingestion.lease import this_process
from ingestion.metrics import Metrics
from ingestion.pause import pause
from ingestion.retry import may_retry
from ingestion.tables import ingestion_reports

EVERY_S = 1.0
"""How often a worker reports."""
PREFIX = "custody_ingestion_"
"""What the names of gauges begin with; reports leave it out."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the chain's latest worker said last."""

    holder: str
    """Host and process."""
    fence: int
    """The worker's number."""
    leased_at: datetime
    """Since when it has the chain."""
    age_s: float
    """Seconds since it reported, by the database's clock."""
    idle_s: float | None
    """Seconds since its loop ended a step well; None before the first."""
    gauges: dict[str, int]
    """Its gauges, as `gauges_of` names them."""


@asynccontextmanager
async def reporting(
    db: Database, chain: ChainId, fence: int, metrics: Metrics, status: Status, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Meanwhile, report once a second, until `stop`. A database that is away is waited for; the loop tells of it."""
    async with beside(_report(db, chain, fence, metrics, status, stop), stop):
        yield


async def write(uow: UnitOfWork, chain: ChainId, fence: int, metrics: Metrics, status: Status) -> None:
    """One report. Does nothing when a later worker has reported."""
    idle_s = None
    if status.succeeded_at is not None:
        idle_s = asyncio.get_running_loop().time() - status.succeeded_at
    statement = upsert(ingestion_reports).values(
        chain=chain,
        fence=fence,
        holder=this_process(),
        leased_at=func.clock_timestamp(),
        succeeded_at=None
        if idle_s is None
        else func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, idle_s),
        gauges=gauges_of(metrics),
        updated_at=func.clock_timestamp(),
    )
    new = statement.excluded
    columns = ingestion_reports.c
    await uow.conn.execute(
        statement.on_conflict_do_update(
            index_elements=["chain"],
            set_={
                "leased_at": func.coalesce(
                    select(columns.leased_at)
                    .where(columns.chain == chain, columns.fence == fence)
                    .scalar_subquery(),
                    new.leased_at,
                ),
                **{name: new[name] for name in ("fence", "holder", "succeeded_at", "gauges", "updated_at")},
            },
            where=columns.fence <= new.fence,
        )
    )


async def load(session: ReadSession, chain: ChainId) -> Report | None:
    """The latest worker's latest report; None when none ever reported."""
    now = func.clock_timestamp()
    columns = ingestion_reports.c
    rows = await session.conn.execute(
        select(
            ingestion_reports,
            (now - columns.updated_at).label("age"),
            (now - columns.succeeded_at).label("idle"),
        ).where(columns.chain == chain)
    )
    row = rows.one_or_none()
    if row is None:
        return None
    return Report(
        holder=row.holder,
        fence=row.fence,
        leased_at=row.leased_at,
        age_s=row.age.total_seconds(),
        idle_s=None if row.idle is None else row.idle.total_seconds(),
        gauges=row.gauges,
    )


def gauges_of(metrics: Metrics) -> dict[str, int]:
    """Every gauge of the chain by its short name, and, where it has a label beside the chain, `name/value`; in whole units."""
    found = {}
    for family in metrics.registry.collect():
        if family.type == "gauge":
            for sample in family.samples:
                labels = [value for label, value in sorted(sample.labels.items()) if label != "chain"]
                found["/".join([family.name.removeprefix(PREFIX), *labels])] = round(sample.value)
    return found


async def _report(
    db: Database, chain: ChainId, fence: int, metrics: Metrics, status: Status, stop: asyncio.Event
) -> None:
    while not stop.is_set():
        try:
            async with db.unit_of_work(None) as uow:
                await write(uow, chain, fence, metrics, status)
                idle_s = status.idle_s(asyncio.get_running_loop().time())
                await sending.note_followed(uow, chain, fence, idle_s)
        except (DBAPIError, OSError) as error:
            if not may_retry(error):
                raise
            _log.warning("ingestion.report_missed", chain=chain, error=str(error)[:300])
        await pause(stop, EVERY_S)
