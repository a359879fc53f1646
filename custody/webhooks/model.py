"""Endpoints, deliveries, and the pure rules: what is sent to whom, when it is tried again, when an endpoint is left in peace.

Source: Standard Webhooks 1.0 (headers, schedule, 410); https://www.standardwebhooks.com.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from custody.kernel.ids import EventId, TenantId

SCHEDULE_S = (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Seconds from one try to the next, before jitter: ten tries in about 75.6 hours. Source: Standard Webhooks, "Retries"."""
TRIES_MAX = len(SCHEDULE_S)
JITTER_PERCENT_MAX = 10
"""A pause grows by up to this share, so that what failed together does not come back together."""
RETRY_AFTER_MAX_S = 3600
"""A receiver that asks for more patience than this gets this much."""
CIRCUIT_FAILURES = 5
"""So many failures in a row open an endpoint's circuit."""
CIRCUIT_FIRST_S = 15
CIRCUIT_LAST_S = 300
"""The circuit stays open for 15 s, doubling with each failed probe up to five minutes."""
OVERLAP_DEFAULT_S = 24 * 3600
OVERLAP_MAX_S = 7 * 24 * 3600
"""How long the old secret signs beside the new one."""
ENDPOINTS_MAX = 50
"""Endpoints of one tenant that are not deleted."""
FILTERS_MAX = 100
DESCRIPTION_MAX = 200
REPLAY_MAX = 5000
"""Longest range of a replay, in sequence numbers."""
GONE = 410
"""The status by which a receiver says that it wants no more. Source: Standard Webhooks, "Status codes"."""

REASONS = ("", "operator", "gone", "exhausted")
OPEN = ("waiting", "sending")
"""States of a delivery that is not at an end: what later events of the same object wait for."""
OUTCOMES = ("delivered", "failed", "gone", "lost")


class Reason(StrEnum):
    """Why an endpoint is off."""

    ON = ""
    """It is not."""
    OPERATOR = "operator"
    """Somebody switched it off or deleted it."""
    GONE = "gone"
    """It answered 410."""
    EXHAUSTED = "exhausted"
    """A delivery used up its schedule and nothing else got through meanwhile."""


class Outcome(StrEnum):
    """How one attempt ended."""

    DELIVERED = "delivered"
    """2xx."""
    FAILED = "failed"
    """Another status, or no answer in time. The receiver may have got it all the same."""
    GONE = "gone"
    """410."""
    LOST = "lost"
    """Our worker went away before it wrote down what happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a tenant wants its events sent."""

    id: UUID
    url: str
    description: str
    types: tuple[str, ...]
    """Exact event types, `object.*` or `*`."""
    state: str
    """A state of `transitions.WEBHOOK_ENDPOINTS`."""
    reason: Reason
    failures: int
    """Failed attempts in a row."""
    circuit_until: datetime | None
    """Nothing is sent before; then one probe at a time until one succeeds."""
    delivered: int
    """Attempts that succeeded, ever."""
    failed: int
    """Attempts that did not, ever."""
    created_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one endpoint. There is exactly one per pair, however often it is tried or replayed."""

    id: UUID
    endpoint_id: UUID
    event_id: EventId
    type: str
    object_id: UUID
    """The ordering key: of one object, a later event waits for an earlier one that is still being tried."""
    position: int
    """The event's sequence number in the tenant's feed."""
    state: str
    """A state of `transitions.WEBHOOK_DELIVERIES`."""
    tries: int
    """Attempts in the present round; a replay begins a new one."""
    attempts: int
    """Attempts ever. Also the fence: who records must name the number that it was given."""
    next_at: datetime
    since: datetime
    """When the present round began."""
    last_status: int | None
    last_error: str
    created_at: datetime
    changed_at: datetime

    @property
    def is_open(self) -> bool:
        """Whether it is not at an end."""
        return self.state in OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One sending, as it ended. Append-only."""

    number: int
    outcome: Outcome
    status: int | None
    error: str
    """A code of `sender`, or empty."""
    elapsed_ms: int | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery under a lease, with all that is needed to send it without the database."""

    tenant: TenantId
    delivery_id: UUID
    endpoint_id: UUID
    number: int
    """The attempt's number."""
    url: str
    event_id: EventId
    type: str
    object_id: UUID
    position: int
    occurred_at: datetime
    data: Mapping[str, object]
    sealed: tuple[tuple[UUID, bytes], ...]
    """Ids and sealed bytes of the secrets that sign now, newest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one sending."""

    status: int | None
    """The HTTP status, when there was one."""
    error: str
    """Why there was none, or why it does not count; empty for 2xx."""
    elapsed_ms: int
    retry_after_s: int | None = None
    """What the receiver asked for."""

    @property
    def outcome(self) -> Outcome:
        """What it means. Only 2xx is success: a redirect is not followed and is a failure."""
        if self.status is not None and 200 <= self.status < 300:
            return Outcome.DELIVERED
        return Outcome.GONE if self.status == GONE else Outcome.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookFigures:
    """How sending stands."""

    waiting: int = 0
    """Deliveries that are not at an end."""
    since: datetime | None = None
    """Since when the oldest of them is tried."""
    delivered: int = 0
    """Attempts that succeeded, ever."""
    failed: int = 0
    """Attempts that did not, ever."""
    active: int = 0
    """Endpoints that are sent to."""
    switched_off: int = 0
    """Endpoints that an operator disabled."""
    broken: int = 0
    """Endpoints that were disabled by what they answered, or did not."""

    def plus(self, other: WebhookFigures) -> WebhookFigures:
        """Both together."""
        moments = [each for each in (self.since, other.since) if each is not None]
        return WebhookFigures(
            waiting=self.waiting + other.waiting,
            since=min(moments, default=None),
            delivered=self.delivered + other.delivered,
            failed=self.failed + other.failed,
            active=self.active + other.active,
            switched_off=self.switched_off + other.switched_off,
            broken=self.broken + other.broken,
        )


def wants(filters: Collection[str], event_type: str) -> bool:
    """Whether an endpoint with these filters is sent this type."""
    return not {event_type, event_type.partition(".")[0] + ".*", "*"}.isdisjoint(filters)


def retry_pause(tries: int, jitter_percent: int, retry_after_s: int | None = None) -> timedelta | None:
    """How long to wait after so many tries; None when the schedule is used up. The caller draws `jitter_percent`, 0 to 10."""
    if tries >= TRIES_MAX:
        return None
    planned = timedelta(seconds=SCHEDULE_S[tries]) * (100 + jitter_percent) / 100
    asked = timedelta(seconds=min(retry_after_s or 0, RETRY_AFTER_MAX_S))
    return max(planned, asked)


def circuit_pause(failures: int) -> timedelta | None:
    """How long an endpoint is left in peace after so many failures in a row; None while its circuit is closed."""
    if failures < CIRCUIT_FAILURES:
        return None
    doublings = min(failures - CIRCUIT_FAILURES, 10)
    return timedelta(seconds=min(CIRCUIT_FIRST_S << doublings, CIRCUIT_LAST_S))
