"""The survey beside a worker's live loop, at its pace. What it does is in `survey.run`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from sqlalchemy.exc import DBAPIError

from custody.db.session import Database
from custody.kernel.assetid import ChainId
from custody.kernel.errors import Unavailable
from custody.settings import ChainSettings
from ingestion.backoff import backoff
from ingestion.beside import beside
from ingestion.errors import ChainHalted, FenceLost
from ingestion.evm import worker as evm
from ingestion.finality import terms_of
from ingestion.metrics import Metrics
from ingestion.pause import pause
from ingestion.retry import may_retry
from ingestion.survey import store
from ingestion.survey.run import Surveyor

STEP_S = 1.0
"""How long to wait between two steps of a pass: a step asks for what may be asked in a second."""

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def surveying(
    db: Database, settings: ChainSettings, fence: int, metrics: Metrics, stop: asyncio.Event
) -> AsyncIterator[None]:
    """Meanwhile, survey, where blocks do not show every change and somebody wants it. What ends this unexpectedly sets
    `stop` and is raised at the end."""
    if settings.kind != "evm" or settings.survey_questions_per_s == 0:
        yield
        return
    async with beside(_survey(db, settings, fence, metrics, stop), stop):
        yield


async def _survey(
    db: Database, settings: ChainSettings, fence: int, metrics: Metrics, stop: asyncio.Event
) -> None:
    """Pass after pass until `stop`. A node or database that is away is waited for; a state that the node lost is told."""
    source = evm.build_source(settings, db)
    surveyor = Surveyor(
        db,
        source,
        fence,
        questions=settings.survey_questions_per_s,
        caution=terms_of(settings).untouched(),
    )
    failures = 0
    try:
        while not stop.is_set():
            pause_s: float = STEP_S
            try:
                surveyed = await surveyor.step()
            except (FenceLost, ChainHalted):
                # The live loop finds out by itself, or waits for a person as well.
                pause_s = settings.survey_period_s
            except (Unavailable, DBAPIError, OSError) as error:
                if not may_retry(error):
                    raise
                failures += 1
                metrics.survey_failed()
                pause_s = backoff(failures)
                await _note(db, source.chain, error)
            else:
                failures = 0
                metrics.surveyed(surveyed)
                if surveyed.is_last:
                    pause_s = settings.survey_period_s
            await pause(stop, pause_s)
    finally:
        await source.aclose()


async def _note(db: Database, chain: ChainId, error: Exception) -> None:
    """Keep why the survey stands, where `custody ingest status` finds it. A database that is away keeps nothing."""
    _log.error("ingestion.survey_stands", chain=chain, error=str(error)[:300])
    if not isinstance(error, Unavailable):
        return
    try:
        async with db.unit_of_work(None) as uow:
            await store.note_trouble(uow, chain, f"{error.code}: {error.public}")
    except (DBAPIError, OSError) as failure:
        if not may_retry(failure):
            raise
        _log.warning("ingestion.report_missed", chain=chain, error=str(failure)[:300])
