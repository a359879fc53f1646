"""How one chain's ingestion fares, from the database alone: where it stands, who holds it, what is filled in, what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import DateTime, func, literal, select

from custody.db.session import ReadSession
from custody.holdings import halts, sending
from custody.holdings.model import ChainHalt
from custody.kernel.assetid import ChainId
from ingestion import cursor, notices, report
from ingestion.backfill import service as backfills
from ingestion.backfill.model import Backfill
from ingestion.report import Report
from ingestion.survey import store as surveys
from ingestion.survey.store import Survey

REPORT_MAX_AGE_S = 15.0
"""A worker that has not reported for so long does not hold the chain any more."""
IDLE_MAX_S = 60.0
"""A loop that ended no step well for so long does not follow its chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """Something that a person should look at."""

    code: str
    """Stable: `stopped no_worker stuck silent retention behind tenants_refused credits_waiting breaks provider_down
    provider_unusable backfill_halted hole halted survey_blind`, and notices by their codes (`notices.ALARMS`)."""
    sentence: str
    """What it is, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """One chain. What is not known is None."""

    chain: ChainId
    """CAIP-2 name."""
    height: int | None
    """The newest booked block."""
    closed_at: datetime | None
    """The chain's own time of it."""
    lag_s: float | None
    """Its age, by the database's clock."""
    head: int | None
    """The newest block that the worker's node had; None without a worker."""
    report: Report | None
    """What the latest worker said last."""
    covered: tuple[tuple[int, int], ...]
    """Ranges that are booked for every vault, both ends included."""
    holes: tuple[tuple[int, int], ...]
    """Ranges between them that nobody ordered."""
    backfills: tuple[Backfill, ...]
    """Those that are not done."""
    unnoticed: int
    """Registered accounts whose range the live loop has not closed yet."""
    halt: ChainHalt | None = None
    """The halt of a chain that was reorganised below finality, until a person's decision is carried out."""
    stopped: str = ""
    """The broken invariant for which its worker ended, until one is at the tip again; empty for none."""
    noticed: Mapping[str, int] = field(default_factory=dict)
    """Alarming notices that nobody has seen, by code."""
    survey: Survey | None = None
    """How far the survey over the chain's accounts is; None where there is none."""

    @property
    def is_held(self) -> bool:
        """Whether a worker reports that it has the chain."""
        return self.report is not None and self.report.age_s < REPORT_MAX_AGE_S

    @property
    def lag_blocks(self) -> int | None:
        """Blocks between the node's newest and ours."""
        return None if self.head is None or self.height is None else max(0, self.head - self.height)

    @property
    def blocks_per_s(self) -> float | None:
        """Blocks that the worker booked a second over the last minute."""
        pace = self._said("booked_blocks_per_minute")
        return None if pace is None else pace / 60

    @property
    def eta_s(self) -> int | None:
        """Seconds until the node's newest block is reached, at the pace of the last minute."""
        return self._said("catch_up_seconds")

    def _said(self, gauge: str) -> int | None:
        """What the worker that has the chain says; it says -1 of what it does not know."""
        if self.report is None or not self.is_held:
            return None
        value = self.report.gauges.get(gauge, -1)
        return None if value < 0 else value


async def load(session: ReadSession, chain: ChainId) -> Overview:
    """One snapshot of all that the database knows about the chain's ingestion."""
    position = await cursor.load(session, chain)
    block = None if position is None else await cursor.load_block(session, chain, position)
    lag_s = None
    if block is not None:
        rows = await session.conn.execute(
            select(func.clock_timestamp() - literal(block.closed_at, DateTime(timezone=True)))
        )
        lag_s = max(0.0, rows.scalar_one().total_seconds())
    said = await report.load(session, chain)
    head = None
    if said is not None and said.age_s < REPORT_MAX_AGE_S and said.gauges.get("head_height"):
        head = int(said.gauges["head_height"])
    return Overview(
        chain=chain,
        height=None if position is None else position.height,
        closed_at=None if block is None else block.closed_at,
        lag_s=lag_s,
        head=head,
        report=said,
        covered=tuple(await backfills.covered(session, chain)),
        holes=tuple(await backfills.holes(session, chain)),
        backfills=tuple(await backfills.find_open(session, chain)),
        unnoticed=await backfills.count_unnoticed(session, chain),
        halt=await halts.find_open(session, chain),
        stopped=await sending.find_trouble(session, chain),
        noticed=await notices.count_alarms(session, chain),
        survey=await surveys.load(session, chain),
    )


def find_alarms(seen: Overview, *, lag_max: int) -> tuple[Alarm, ...]:
    """What is wrong with the chain; `lag_max` is how many blocks behind the node's newest are still well. Pure."""
    found = [*_of_halt(seen), *_of_worker(seen)]
    if seen.stopped:
        sentence = f"a worker ended with {seen.stopped}: nothing new is sent until the tip is reached again"
        found.append(Alarm(code="stopped", sentence=sentence))
    found += [
        Alarm(
            code=code, sentence=f"{count} notices that nobody has seen: custody ingest notices --code {code}"
        )
        for code, count in sorted(seen.noticed.items())
    ]
    if seen.lag_blocks is not None and seen.lag_blocks > lag_max:
        found.append(Alarm(code="behind", sentence=f"{seen.lag_blocks} blocks behind the node"))
    if seen.survey is not None and seen.survey.trouble:
        sentence = f"the survey over accounts stands: {seen.survey.trouble}"
        found.append(Alarm(code="survey_blind", sentence=sentence))
    found += [_of_halted(each) for each in seen.backfills if each.halted]
    found += [
        Alarm(code="hole", sentence=f"blocks {first} to {last} were never read") for first, last in seen.holes
    ]
    return tuple(found)


def _of_halt(seen: Overview) -> list[Alarm]:
    if seen.halt is None:
        return []
    fork = seen.halt.fork
    words = f"reorganised to block {fork.fork_height}, below the final {fork.final_height}; {seen.halt.state}"
    return [Alarm(code="halted", sentence=f"{words}: custody ingest halt --chain {seen.chain}")]


def _of_worker(seen: Overview) -> list[Alarm]:
    if seen.report is None or not seen.is_held:
        since = "" if seen.report is None else f" since {seen.report.age_s:.0f} s"
        return [Alarm(code="no_worker", sentence=f"no worker reports{since}")]
    found = []
    if seen.report.idle_s is None or seen.report.idle_s > IDLE_MAX_S:
        found.append(Alarm(code="stuck", sentence="the worker's loop ends no step well"))
    gauges = seen.report.gauges
    if gauges.get("silent"):
        found.append(Alarm(code="silent", sentence="no block was booked for too long"))
    if gauges.get("retention_alarm"):
        left = gauges.get("retention_left_blocks")
        words = "" if left is None else f": {left} blocks are left"
        found.append(Alarm(code="retention", sentence=f"the node is about to drop what is needed{words}"))
    if refused := gauges.get("tenants_refused"):
        found.append(
            Alarm(code="tenants_refused", sentence=f"the ledgers of {refused} tenants refuse what is final")
        )
    if waiting := gauges.get("credits_waiting"):
        found.append(
            Alarm(
                code="credits_waiting",
                sentence=f"{waiting} credits wait until more providers name their block",
            )
        )
    if breaks := gauges.get("breaks_open"):
        found.append(Alarm(code="breaks", sentence=f"books of {breaks} holdings differ from the chain"))
    found += [
        Alarm(code="provider_down", sentence=f"provider {name.partition('/')[2]} does not answer")
        for name, value in sorted(gauges.items())
        if name.startswith("provider_up/") and not value
    ]
    found += [
        Alarm(
            code="provider_unusable",
            sentence=f"what provider {name.partition('/')[2]} gives cannot be booked: its log says why",
        )
        for name, value in sorted(gauges.items())
        if name.startswith("provider_unusable/") and value
    ]
    return found


def _of_halted(backfill: Backfill) -> Alarm:
    what = f"backfill of {backfills.scope_of(backfill)} from {backfill.first} to {backfill.last}"
    return Alarm(code="backfill_halted", sentence=f"{what} stands at {backfill.next}: {backfill.halted}")
