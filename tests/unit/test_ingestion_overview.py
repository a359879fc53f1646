"""Which alarms a chain has, from what its database rows say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any
from uuid import UUID

import pytest
from rich.console import Console

from cli.ingest import as_json, print_status
from custody.kernel.assetid import ChainId
from custody.kernel.clock import FixedClock, SystemClock
from ingestion.backfill.model import EVERY_VAULT, Backfill
from ingestion.metrics import Metrics
from ingestion.overview import Overview, find_alarms
from ingestion.progress import Progress
from ingestion.report import PREFIX, Report, gauges_of

CHAIN = ChainId("stellar:devnet")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
WORKER = Report(holder="host/1", fence=1, leased_at=NOW, age_s=0.5, idle_s=0.5, gauges={"head_height": 120})
WELL = Overview(
    chain=CHAIN,
    height=100,
    closed_at=NOW,
    lag_s=5.0,
    head=120,
    report=WORKER,
    covered=((2, 100),),
    holes=(),
    backfills=(),
    unnoticed=0,
)
BACKFILL = Backfill(
    id=UUID(int=1),
    chain=CHAIN,
    account=EVERY_VAULT,
    registered=False,
    first=10,
    last=109,
    next=60,
    stands_on="aa",
    fence=2,
    holder="host/1",
    halted="",
    started_at=NOW,
    started=20,
    updated_at=NOW + timedelta(seconds=8),
)


def with_gauge(name: str, value: int) -> Overview:
    return replace(WELL, report=replace(WORKER, gauges={**WORKER.gauges, name: value}))


@pytest.mark.parametrize(
    ("seen", "codes"),
    [
        (WELL, []),
        (replace(WELL, head=121), ["behind"]),
        (replace(WELL, height=130), []),
        (replace(WELL, report=None, head=None), ["no_worker"]),
        (replace(WELL, stopped="ingestion_providers_disagree"), ["stopped"]),
        (replace(WELL, report=replace(WORKER, age_s=15.0), head=None), ["no_worker"]),
        (replace(WELL, report=replace(WORKER, idle_s=None)), ["stuck"]),
        (replace(WELL, report=replace(WORKER, idle_s=61.0)), ["stuck"]),
        (with_gauge("silent", 1), ["silent"]),
        (with_gauge("silent", 0), []),
        (with_gauge("retention_alarm", 1), ["retention"]),
        (with_gauge("tenants_refused", 2), ["tenants_refused"]),
        (with_gauge("breaks_open", 1), ["breaks"]),
        (with_gauge("provider_up/one.example", 0), ["provider_down"]),
        (with_gauge("provider_up/one.example", 1), []),
        (with_gauge("credits_waiting", 2), ["credits_waiting"]),
        (with_gauge("provider_unusable/one.example", 1), ["provider_unusable"]),
        (with_gauge("provider_unusable/one.example", 0), []),
        (replace(WELL, holes=((5, 9),)), ["hole"]),
        (replace(WELL, backfills=(BACKFILL,)), []),
        (replace(WELL, backfills=(replace(BACKFILL, halted="why"),)), ["backfill_halted"]),
    ],
)
def test_each_fault_has_its_alarm_and_nothing_else_has(seen: Overview, codes: list[str]) -> None:
    assert [each.code for each in find_alarms(seen, lag_max=20)] == codes


def test_rate_and_remaining_time_count_from_where_the_latest_process_began() -> None:
    assert (BACKFILL.blocks, BACKFILL.blocks_done) == (100, 50)
    assert BACKFILL.blocks_per_s == 5.0
    assert BACKFILL.eta_s == 10.0
    assert replace(BACKFILL, next=110).eta_s == 0.0
    assert replace(BACKFILL, started_at=None, started=None).eta_s is None
    assert replace(BACKFILL, next=20).eta_s is None


def test_an_empty_range_is_done() -> None:
    empty = replace(BACKFILL, first=0, last=-1, next=0)
    assert empty.is_done
    assert empty.blocks == 0


def test_gauges_are_reported_by_their_short_names_and_counters_are_not() -> None:
    metrics = Metrics(CHAIN, SystemClock())
    metrics.stands_at(7, 9, NOW)
    metrics.rewound()
    found = gauges_of(metrics)
    assert (found["cursor_height"], found["head_height"], found["lag_blocks"]) == (7, 9, 2)
    assert not [name for name in found if "reorgs" in name]


def test_the_time_until_the_head_counts_by_how_much_the_distance_shrinks() -> None:
    progress = Progress()
    assert (progress.blocks_per_s, progress.eta_s) == (None, None)
    progress.stands_at(NOW, 100, 1_000)
    assert (progress.blocks_per_s, progress.eta_s) == (None, None)
    for second in range(1, 11):
        # Ten blocks a second are booked, and the chain makes two.
        progress.stands_at(NOW + timedelta(seconds=second), 100 + 10 * second, 1_000 + 2 * second)
    assert (progress.blocks_per_s, progress.eta_s) == (10.0, 102.5)
    progress.stands_at(NOW + timedelta(seconds=10.5), 1_020, 1_020)
    assert progress.eta_s == 0.0


def test_no_time_is_told_when_the_head_runs_away_and_the_pace_is_that_of_the_last_minute() -> None:
    progress = Progress()
    for second in range(200):
        progress.stands_at(NOW + timedelta(seconds=second), min(second, 100), 1_000 + 2 * second)
    assert (progress.blocks_per_s, progress.eta_s) == (0.0, None)
    # A reorganisation: what was before says nothing.
    progress.stands_at(NOW + timedelta(seconds=200), 90, 1_400)
    assert progress.blocks_per_s is None


def test_a_catch_up_is_shown_with_its_pace_and_its_end_by_the_worker_that_has_the_chain() -> None:
    clock = FixedClock(NOW)
    metrics = Metrics(CHAIN, clock)
    assert gauges_of(metrics)["catch_up_seconds"] == -1
    for second in range(3):
        metrics.stands_at(100 + 20 * second, 1_000, NOW)
        clock.advance(1)
    seen = replace(WELL, head=1_000, height=140, report=replace(WORKER, gauges=gauges_of(metrics)))
    assert (seen.blocks_per_s, seen.eta_s) == (20.0, 43)
    shown = as_json(seen, [])
    assert (shown["blocks_per_s"], shown["eta_s"]) == (20.0, 43)
    console = Console(file=StringIO(), width=200)
    print_status([seen], {CHAIN: ()}, console)
    assert "860 (43 s)" in console.file.getvalue()  # type: ignore[attr-defined]
    metrics.retried()
    assert gauges_of(metrics)["catch_up_seconds"] == -1
    gone = replace(seen, report=replace(seen.report or WORKER, age_s=60.0))
    assert (gone.blocks_per_s, gone.eta_s) == (None, None)


class Asked(dict[str, int]):
    """Gauges that remember what they were asked for."""

    def __init__(self, gauges: dict[str, int]) -> None:
        super().__init__(gauges)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def test_every_gauge_that_an_alarm_asks_for_is_one_that_a_worker_has() -> None:
    # With each alarm on, so that what its sentence needs is asked for too.
    alarming = ("silent", "retention_alarm", "tenants_refused", "credits_waiting", "breaks_open")
    asked = Asked(dict.fromkeys(alarming, 1))
    codes = [
        each.code for each in find_alarms(replace(WELL, report=replace(WORKER, gauges=asked)), lag_max=20)
    ]
    assert codes == ["silent", "retention", "tenants_refused", "credits_waiting", "breaks"]
    families = Metrics(CHAIN, SystemClock()).registry.collect()
    has = {family.name.removeprefix(PREFIX) for family in families if family.type == "gauge"}
    assert asked.names <= has
    assert {"source_trust", "provider_up", "provider_unusable"} <= has
