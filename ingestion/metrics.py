"""What operators see of one worker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from custody.kernel.assetid import ChainId
from custody.kernel.clock import Clock
from ingestion.effects import Tally


class Metrics:
    """Gauges and counters of one chain, in a registry of their own."""

    def __init__(self, chain: ChainId, clock: Clock) -> None:
        """Every series carries the chain's id. The age of the newest block is taken by `clock` whenever it is asked for."""
        self._chain = chain
        self._clock = clock
        self._closed_at: datetime | None = None
        self.registry = CollectorRegistry()
        labels = ["chain"]
        self._cursor = self._gauge("cursor_height", "Newest block that is booked.", labels)
        self._head = self._gauge("head_height", "Newest block that the node has.", labels)
        self._lag_blocks = self._gauge("lag_blocks", "Blocks between the two.", labels)
        self._lag_seconds = self._gauge("lag_seconds", "Age of the newest booked block.", labels)
        self._lag_seconds.labels(chain).set_function(self._age_s)
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
        self._cases = self._counter(
            "deposit_cases_total", "Arrivals that could not be credited.", [*labels, "reason"]
        )
        self._reorgs = self._counter("reorgs_total", "Times the chain was rewound.", labels)
        self._retries = self._counter("retries_total", "Steps that failed and were tried again.", labels)

    def leased(self, held: bool) -> None:  # noqa: FBT001 (a gauge's only value)
        """Note whether this worker holds the lease."""
        self._leased.labels(self._chain).set(int(held))

    def stands_at(self, height: int, head: int, closed_at: datetime) -> None:
        """Note where ingestion and the chain stand."""
        self._cursor.labels(self._chain).set(height)
        self._head.labels(self._chain).set(head)
        self._lag_blocks.labels(self._chain).set(max(0, head - height))
        self._closed_at = closed_at
        self._last_block.labels(self._chain).set(int(closed_at.timestamp()))

    def booked(self, tally: Tally) -> None:
        """Count one block."""
        self._blocks.labels(self._chain).inc()
        self._deposits.labels(self._chain).inc(tally.deposits)
        self._unlisted.labels(self._chain).inc(tally.unlisted)
        self._sent.labels(self._chain).inc(tally.transactions)
        self._unexplained.labels(self._chain).inc(tally.unexplained)

    def settled(self, *, refused: int, cases: Mapping[str, int]) -> None:
        """Note how many tenants could not be settled at the newest block, and count what could not be credited, by reason."""
        self._refused.labels(self._chain).set(refused)
        for reason, opened in cases.items():
            self._cases.labels(self._chain, reason).inc(opened)

    def rewound(self) -> None:
        """Count one reorganisation."""
        self._reorgs.labels(self._chain).inc()

    def retried(self) -> None:
        """Count one failed step."""
        self._retries.labels(self._chain).inc()

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
