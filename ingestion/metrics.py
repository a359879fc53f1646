"""What operators see of one worker."""

from __future__ import annotations

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from custody.kernel.assetid import ChainId
from custody.kernel.clock import Clock
from ingestion.effects import Tally
from ingestion.progress import Progress
from ingestion.settling import Settled
from ingestion.survey.model import Surveyed


class Metrics:
    """Gauges and counters of one chain, in a registry of their own."""

    def __init__(self, chain: ChainId, clock: Clock) -> None:
        """Every series carries the chain's id. The age of the newest block is taken by `clock` whenever it is asked for."""
        self._chain = chain
        self._clock = clock
        self._closed_at: datetime | None = None
        self._progress = Progress()
        self.registry = CollectorRegistry()
        labels = ["chain"]
        self._cursor = self._gauge("cursor_height", "Newest block that is booked.", labels)
        self._head = self._gauge("head_height", "Newest block that the node has.", labels)
        self._lag_blocks = self._gauge("lag_blocks", "Blocks between the two.", labels)
        self._lag_seconds = self._gauge("lag_seconds", "Age of the newest booked block.", labels)
        self._lag_seconds.labels(chain).set_function(self._age_s)
        self._open_pace_series(labels)
        self._last_block = self._gauge(
            "last_block_timestamp_seconds", "Chain time of the newest booked block.", labels
        )
        self._leased = self._gauge("leased", "Whether this worker may write.", labels)
        self._blocks = self._counter("blocks_total", "Blocks booked.", labels)
        self._deposits = self._counter("deposits_observed_total", "Arrivals recorded.", labels)
        self._unlisted = self._counter("unlisted_arrivals_total", "Arrivals of unlisted assets.", labels)
        self._sent = self._counter("own_transactions_total", "Transactions that our vaults sent.", labels)
        self._unexplained = self._counter(
            "unexplained_departures_total", "Departures in transactions that our vaults did not send.", labels
        )
        self._refused = self._gauge(
            "tenants_refused", "Tenants whose ledger refused to book what is final: page.", labels
        )
        self._breaks = self._gauge(
            "breaks_open", "Holdings whose books differ from the chain's own state: page.", labels
        )
        self._cases = self._counter(
            "deposit_cases_total", "Arrivals that could not be credited.", [*labels, "reason"]
        )
        self._final = self._gauge(
            "final_height", "Newest block that is final by the chain's rule; -1 for none.", labels
        )
        self._waits = self._gauge(
            "credits_waiting", "Credits whose block too few providers name: page.", labels
        )
        self._reorgs = self._counter("reorgs_total", "Times the chain was rewound.", labels)
        self._retries = self._counter("retries_total", "Steps that failed and were tried again.", labels)
        self._silent = self._gauge("silent", "Whether no block was booked for too long: page.", labels)
        self._confirmed = self._gauge(
            "agreed_height", "Newest block whose hash a second provider has named.", labels
        )
        self._unconfirmed = self._gauge(
            "unconfirmed_blocks", "Newest fetched blocks that no second provider confirmed.", labels
        )
        self._left = self._gauge(
            "retention_left_blocks", "Blocks until the providers drop the next one that we need.", labels
        )
        self._expiring = self._gauge(
            "retention_alarm", "Whether history is about to be lost, and no lake has it: page.", labels
        )
        self._lake_faults = self._counter(
            "lake_faults_total", "Times that the providers stood in for the lake.", labels
        )
        by_source = [*labels, "source"]
        self._from = self._counter("fetched_blocks_total", "Blocks by where they came from.", by_source)
        self._trust = self._gauge(
            "source_trust",
            "2 for blocks that are whole and proved, 1 where something is put together or believed.",
            by_source,
        )
        self._open_provider_series([*labels, "provider"])
        self._watch_for_people(labels)

    def _open_pace_series(self, labels: list[str]) -> None:
        self._pace = self._gauge(
            "booked_blocks_per_minute", "Over the last minute; -1 while unknown.", labels
        )
        self._eta = self._gauge(
            "catch_up_seconds",
            "Until the node's newest block is reached; -1 while unknown, or when the distance does not shrink.",
            labels,
        )
        self._pace.labels(self._chain).set(-1)
        self._eta.labels(self._chain).set(-1)

    def _open_provider_series(self, by_provider: list[str]) -> None:
        self._up = self._gauge("provider_up", "Whether the provider answers.", by_provider)
        self._provider_head = self._gauge("provider_head_height", "Its newest block.", by_provider)
        self._behind = self._gauge("provider_lag_blocks", "Blocks behind the best provider.", by_provider)
        self._late = self._gauge("provider_lag_seconds", "Seconds behind the best provider.", by_provider)
        self._failures = self._counter("provider_failures_total", "Calls that failed.", by_provider)
        self._heads = self._gauge("heads_heard", "Whether its socket tells of new blocks.", by_provider)
        self._unusable = self._gauge(
            "provider_unusable", "Whether what it gave last could not be booked: page.", by_provider
        )

    def _watch_for_people(self, labels: list[str]) -> None:
        """What a person must look at, and the survey that looks for it."""
        self._notices = self._counter(
            "notices_total", "What a person should see of blocks.", [*labels, "code"]
        )
        self._halted = self._gauge(
            "halted", "Whether the chain was reorganised below finality and waits for a person: page.", labels
        )
        self._surveyed = self._gauge(
            "survey_height", "Final block at which the survey compared accounts last.", labels
        )
        self._survey_blind = self._gauge(
            "survey_blind",
            "Whether the node does not tell the balances that the survey asks for: page.",
            labels,
        )
        self._asked = self._counter("survey_questions_total", "Balances that the survey asked for.", labels)
        self._unseen = self._counter(
            "survey_unseen_total",
            "Holdings that had changed in blocks that do not name their account.",
            labels,
        )

    def leased(self, held: bool) -> None:  # noqa: FBT001 (a gauge's only value)
        """Note whether this worker holds the lease."""
        self._leased.labels(self._chain).set(int(held))

    def stands_at(self, height: int, head: int, closed_at: datetime) -> None:
        """Note where ingestion and the chain stand."""
        self._cursor.labels(self._chain).set(height)
        self._head.labels(self._chain).set(head)
        self._lag_blocks.labels(self._chain).set(max(0, head - height))
        self._progress.stands_at(self._clock.now(), height, head)
        pace, eta_s = self._progress.blocks_per_s, self._progress.eta_s
        self._pace.labels(self._chain).set(-1 if pace is None else pace * 60)
        self._eta.labels(self._chain).set(-1 if eta_s is None else eta_s)
        self._closed_at = closed_at
        self._last_block.labels(self._chain).set(int(closed_at.timestamp()))

    def booked(self, tally: Tally) -> None:
        """Count one block."""
        self._blocks.labels(self._chain).inc()
        self._deposits.labels(self._chain).inc(tally.deposits)
        self._unlisted.labels(self._chain).inc(tally.unlisted)
        self._sent.labels(self._chain).inc(tally.transactions)
        self._unexplained.labels(self._chain).inc(tally.unexplained)
        for code in tally.notices:
            self._notices.labels(self._chain, code).inc()

    def settled(self, settled: Settled) -> None:
        """Note how many tenants could not be settled at the newest block and how many holdings differ from the chain there, and
        count what could not be credited, by reason."""
        self._refused.labels(self._chain).set(len(settled.refused))
        self._breaks.labels(self._chain).set(settled.breaks)
        for reason, opened in settled.cases.items():
            self._cases.labels(self._chain, reason).inc(opened)

    def final(self, height: int) -> None:
        """Note up to where blocks are final by the chain's rule."""
        self._final.labels(self._chain).set(height)

    def waits_for_agreement(self, waiting: int) -> None:
        """Note how many credits wait until more providers name their block."""
        self._waits.labels(self._chain).set(waiting)

    def rewound(self) -> None:
        """Count one reorganisation."""
        self._reorgs.labels(self._chain).inc()

    def halted(self, halted: bool) -> None:  # noqa: FBT001 (a gauge's only value)
        """Note whether the chain waits for a person."""
        self._halted.labels(self._chain).set(int(halted))

    def surveyed(self, surveyed: Surveyed) -> None:
        """Count one step of the survey."""
        self._survey_blind.labels(self._chain).set(0)
        if surveyed.height >= 0:
            self._surveyed.labels(self._chain).set(surveyed.height)
        self._asked.labels(self._chain).inc(surveyed.asked)
        self._unseen.labels(self._chain).inc(surveyed.found)

    def survey_failed(self) -> None:
        """Note that the survey could not go on."""
        self._survey_blind.labels(self._chain).set(1)

    def retried(self) -> None:
        """Count one failed step: when the head is reached is unknown again."""
        self._eta.labels(self._chain).set(-1)
        self._retries.labels(self._chain).inc()

    def silent(self, silent: bool) -> None:  # noqa: FBT001 (a gauge's only value)
        """Note whether no block was booked for too long."""
        self._silent.labels(self._chain).set(int(silent))

    def agreed(self, height: int, unconfirmed: int) -> None:
        """Note up to where a second provider confirmed what was fetched, and how many blocks above that were."""
        self._confirmed.labels(self._chain).set(height)
        self._unconfirmed.labels(self._chain).set(unconfirmed)

    def retention(self, left: int, alarm: bool) -> None:  # noqa: FBT001 (a gauge's only value)
        """Note how many blocks are left until history is lost, and whether that is an alarm."""
        self._left.labels(self._chain).set(left)
        self._expiring.labels(self._chain).set(int(alarm))

    def lake_failed(self) -> None:
        """Count one batch that the lake could not give."""
        self._lake_faults.labels(self._chain).inc()

    def fetched(self, source: str, blocks: int) -> None:
        """Count blocks by where they came from: `rpc`, `lake` or `horizon`."""
        self._from.labels(self._chain, source).inc(blocks)

    def trusts(self, source: str, level: int) -> None:
        """Note how far a source is trusted."""
        self._trust.labels(self._chain, source).set(level)

    def provider_stands(self, name: str, up: bool, height: int, best: int, late_s: float) -> None:  # noqa: FBT001
        """Note where a provider stands beside the best."""
        self._up.labels(self._chain, name).set(int(up))
        self._provider_head.labels(self._chain, name).set(height)
        self._behind.labels(self._chain, name).set(max(0, best - height))
        self._late.labels(self._chain, name).set(late_s)

    def provider_failed(self, name: str) -> None:
        """Count one failed call."""
        self._failures.labels(self._chain, name).inc()

    def heads_heard(self, name: str, heard: bool) -> None:  # noqa: FBT001 (a gauge's only value)
        """Note whether a node's socket tells of new blocks. Where it does not, polling goes on."""
        self._heads.labels(self._chain, name).set(int(heard))

    def provider_unusable(self, name: str, unusable: bool) -> None:  # noqa: FBT001 (a gauge's only value)
        """Note whether what a provider gave last could not be booked."""
        self._unusable.labels(self._chain, name).set(int(unusable))

    def text(self) -> bytes:
        """All series in Prometheus' text format."""
        return generate_latest(self.registry)

    def _age_s(self) -> float:
        """Also true while the node is away and nothing else moves. -1 before the first block."""
        if self._closed_at is None:
            return -1
        return max(0.0, (self._clock.now() - self._closed_at).total_seconds())

    def _gauge(self, name: str, what: str, labels: list[str]) -> Gauge:
        return Gauge(f"custody_ingestion_{name}", what, labels, registry=self.registry)

    def _counter(self, name: str, what: str, labels: list[str]) -> Counter:
        return Counter(f"custody_ingestion_{name}", what, labels, registry=self.registry)
