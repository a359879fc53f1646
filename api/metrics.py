"""What Prometheus scrapes: requests by route template, and how far each chain's ingestion is behind its node.

Every application object has its own registry, so that two in one process (tests) never share counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from custody.webhooks.model import WebhookFigures

_LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

Transport = Literal["websocket", "sse"]
"""How subscriptions are watched."""


@dataclass(slots=True)
class Ending:
    """Why a socket or event stream ended: the code of the error that ended it, or one of these words."""

    reason: str = "failed"
    """`client_left`, `completed`, `protocol` for a client that broke the rules, `failed` for what nobody expected."""


class Metrics:
    """The API's measurements."""

    def __init__(self) -> None:
        """All at zero."""
        self.registry = CollectorRegistry()
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._requests = Counter(
            "custody_api_requests_total",
            "Requests answered.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._latency = Histogram(
            "custody_api_request_seconds",
            "Time from the first byte of a request to its answer.",
            ["method", "route"],
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._replays = Counter(
            "custody_api_idempotent_replays_total",
            "Commands answered from the record.",
            ["route"],
            registry=self.registry,
        )
        self._switches = Gauge(
            "custody_switches_stopped",
            "Kill switches that stand, by what they stop.",
            ["tenant", "scope"],
            registry=self.registry,
        )
        self._refusals = Counter(
            "custody_api_rate_limited_total",
            "Requests that were turned away because their caller asked too often.",
            ["kind"],
            registry=self.registry,
        )
        self._counted_alone = Gauge(
            "custody_api_limits_counted_alone",
            "1 while this process counts requests by itself, because Valkey does not answer.",
            registry=self.registry,
        )
        self._measure_chains()
        self._measure_webhooks()
        self._measure_streams()

    def _measure_chains(self) -> None:
        """Set at each scrape."""
        self._cursor = Gauge(
            "custody_ingestion_cursor_height",
            "Height of the last block booked.",
            ["chain"],
            registry=self.registry,
        )
        self._head = Gauge(
            "custody_chain_head_height",
            "Height that the chain's node tells.",
            ["chain"],
            registry=self.registry,
        )
        self._lag = Gauge(
            "custody_ingestion_lag_blocks",
            "Node's head minus the last block booked.",
            ["chain"],
            registry=self.registry,
        )
        self._free_keys = Gauge(
            "custody_deposit_keys_free",
            "Keys that are ready for new deposit addresses on EVM chains.",
            ["tenant"],
            registry=self.registry,
        )
        self._keys_refused = Gauge(
            "custody_deposit_keys_refused",
            "1 while the signer refuses to make the keys that were asked for.",
            ["tenant"],
            registry=self.registry,
        )

    def _measure_webhooks(self) -> None:
        """Set by whoever reads the figures, at each scrape."""
        self._webhooks_waiting = Gauge(
            "custody_webhook_deliveries_waiting",
            "Deliveries that are not at an end, in all tenants.",
            registry=self.registry,
        )
        self._webhooks_lag = Gauge(
            "custody_webhook_lag_seconds",
            "For how long the oldest delivery that is not at an end has been tried.",
            registry=self.registry,
        )
        self._webhook_attempts = Gauge(
            "custody_webhook_attempts",
            "Attempts ever made, in all tenants, by how they ended.",
            ["outcome"],
            registry=self.registry,
        )
        self._webhook_endpoints = Gauge(
            "custody_webhook_endpoints",
            "Endpoints by state: active, disabled by an operator, or disabled by what they answered.",
            ["state"],
            registry=self.registry,
        )

    def _measure_streams(self) -> None:
        self._streams = Gauge(
            "custody_api_streams_open",
            "Sockets and event streams that are open.",
            ["transport"],
            registry=self.registry,
        )
        self._subscriptions = Gauge(
            "custody_api_subscriptions_open",
            "Subscriptions that are open; one socket may have several.",
            ["transport"],
            registry=self.registry,
        )
        self._deliveries = Counter(
            "custody_api_deliveries_total",
            "Answers of subscriptions that were given to a socket or event stream.",
            ["transport"],
            registry=self.registry,
        )
        self._closes = Counter(
            "custody_api_streams_closed_total",
            "Sockets and event streams that ended, by the code of the error or the word that says why.",
            ["transport", "reason"],
            registry=self.registry,
        )

    @contextmanager
    def stream(self, transport: Transport) -> Iterator[Ending]:
        """One socket or event stream while it is open. Whoever serves it says in the end why it ended."""
        ending = Ending()
        self._streams.labels(transport).inc()
        try:
            yield ending
        finally:
            self._streams.labels(transport).dec()
            self._closes.labels(transport, ending.reason).inc()

    @contextmanager
    def subscription(self, transport: Transport) -> Iterator[Callable[[], None]]:
        """One subscription while it is open; what is given is to be called at each of its answers."""
        self._subscriptions.labels(transport).inc()
        try:
            yield self._deliveries.labels(transport).inc
        finally:
            self._subscriptions.labels(transport).dec()

    def request_observed(self, method: str, route: str, status: int, elapsed_s: float) -> None:
        """One request was answered."""
        counted, timed = self._known.get((method, route, status), (None, None))
        if counted is None or timed is None:
            counted, timed = (
                self._requests.labels(method, route, str(status)),
                self._latency.labels(method, route),
            )
            self._known[method, route, status] = (counted, timed)
        counted.inc()
        timed.observe(elapsed_s)

    def refusal_observed(self, kind: str) -> None:
        """One request came too often."""
        self._refusals.labels(kind).inc()

    def limits_observed(self, *, alone: bool) -> None:
        """Whether requests are counted over all processes, or by this one alone."""
        self._counted_alone.set(alone)

    def replay_observed(self, route: str) -> None:
        """A command was repeated and got its first answer again."""
        self._replays.labels(route).inc()

    def chain_observed(self, chain: str, cursor_height: int | None, head_height: int | None) -> None:
        """Where one chain stands. What is not known is not shown."""
        if cursor_height is not None:
            self._cursor.labels(chain).set(cursor_height)
        if head_height is not None:
            self._head.labels(chain).set(head_height)
        if cursor_height is not None and head_height is not None:
            self._lag.labels(chain).set(max(0, head_height - cursor_height))

    def webhooks_observed(self, found: WebhookFigures, lag_s: float) -> None:
        """How sending events stands in the whole installation."""
        self._webhooks_waiting.set(found.waiting)
        self._webhooks_lag.set(lag_s)
        self._webhook_attempts.labels("delivered").set(found.delivered)
        self._webhook_attempts.labels("failed").set(found.failed)
        self._webhook_endpoints.labels("active").set(found.active)
        self._webhook_endpoints.labels("switched_off").set(found.switched_off)
        self._webhook_endpoints.labels("broken").set(found.broken)

    def pool_observed(self, tenant: int, free: int, *, refused: bool) -> None:
        """How many deposit keys a tenant has ready."""
        self._free_keys.labels(str(tenant)).set(free)
        self._keys_refused.labels(str(tenant)).set(refused)

    def switches_observed(self, tenant: int, standing: Mapping[str, int]) -> None:
        """What a tenant's operators have stopped."""
        for scope, many in standing.items():
            self._switches.labels(str(tenant), scope).set(many)

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
