"""One delivery's way: claimed under a lease and committed, sent without a transaction, written down in another.

Killed anywhere in between it leaves a lease that ends: the event is then sent again under the same id, so that a receiver that
keeps ids sees it once. Who comes back after its lease has ended finds another attempt number and writes nothing.

Locks: the endpoint, then the delivery.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from secrets import randbelow
from uuid import UUID

import structlog

from custody.db.session import Database, UnitOfWork
from custody.events import outbox
from custody.events.envelope import build_body
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import EventId, TenantId, new_uuid
from custody.webhooks import delivery_store, service, store
from custody.webhooks.errors import UnknownEndpoint
from custody.webhooks.message import build_headers
from custody.webhooks.model import (
    CIRCUIT_FAILURES,
    JITTER_PERCENT_MAX,
    Answer,
    Claimed,
    Delivery,
    Endpoint,
    Outcome,
    Reason,
    circuit_pause,
    retry_pause,
)
from custody.webhooks.sealed import SecretBox
from custody.webhooks.sender import Sender
from custody.webhooks.transitions import WEBHOOK_ENDPOINTS

ACTOR = "webhooks"
"""Who the audit log names: nobody asked, the receiver's answers did."""
_EXPIRED_AT_ONCE = 100

_log = structlog.get_logger(__name__)


async def claim_due(
    db: Database, tenant: TenantId, endpoint_id: UUID, *, now: datetime, lease: timedelta, limit: int
) -> list[Claimed]:
    """Take what an endpoint is due, at most `limit`; a single probe where its circuit was open. Nothing while others take."""
    async with db.unit_of_work(tenant) as uow:
        endpoint = await store.load_endpoint(uow, endpoint_id, lock=True, skip=True)
        if endpoint is None or not _lets_through(endpoint, now):
            return []
        probing = endpoint.failures >= CIRCUIT_FAILURES
        taken = await delivery_store.claim(
            uow, endpoint_id, now=now, lease_until=now + lease, limit=1 if probing else limit
        )
        if not taken:
            return []
        if probing:
            await store.keep_probe(uow, endpoint_id, now + lease)
        return await _with_events(uow, endpoint, taken, now)


async def send(sender: Sender, box: SecretBox, claimed: Claimed, now: datetime) -> Answer:
    """Sign and send one claimed delivery. Opens no transaction. Raises SecretUnreadable."""
    body = build_body(
        event_id=claimed.event_id,
        event_type=claimed.type,
        position=claimed.position,
        object_id=claimed.object_id,
        occurred_at=claimed.occurred_at,
        data=claimed.data,
    )
    secrets = [
        box.open(claimed.tenant, claimed.endpoint_id, secret_id, sealed)
        for secret_id, sealed in claimed.sealed
    ]
    return await sender.send(claimed.url, build_headers(claimed.event_id, body, secrets, now), body)


async def probe(
    db: Database, sender: Sender, box: SecretBox, tenant: TenantId, endpoint_id: UUID, now: datetime
) -> Answer:
    """Send a signed `webhook.test`, whatever the endpoint's filters, and keep nothing of it. Raises UnknownEndpoint."""
    async with db.read(tenant) as session:
        endpoint = await service.get_endpoint(session, endpoint_id)
        sealed = await store.load_secrets(session, endpoint_id, now)
    if not sealed:
        raise UnknownEndpoint(endpoint=endpoint_id)
    tried = Claimed(
        tenant=tenant,
        delivery_id=endpoint_id,
        endpoint_id=endpoint_id,
        number=0,
        url=endpoint.url,
        event_id=EventId(new_uuid()),
        type="webhook.test",
        object_id=endpoint_id,
        position=0,
        occurred_at=now,
        data={},
        sealed=sealed,
    )
    return await send(sender, box, tried, now)


async def record(db: Database, claimed: Claimed, answer: Answer, now: datetime) -> bool:
    """Write down how an attempt ended, and what follows for the delivery and its endpoint. False when its lease had ended."""
    async with db.unit_of_work(claimed.tenant) as uow:
        endpoint = await store.load_endpoint(uow, claimed.endpoint_id, lock=True)
        delivery = await delivery_store.lock_sent(uow, claimed.delivery_id, claimed.number)
        if endpoint is None or delivery is None:
            _log.warning("webhook.late", delivery_id=str(claimed.delivery_id), attempt=claimed.number)
            return False
        await delivery_store.insert_attempt(
            uow,
            delivery,
            answer.outcome,
            status=answer.status,
            error=answer.error,
            elapsed_ms=answer.elapsed_ms,
        )
        if answer.outcome is Outcome.DELIVERED:
            await store.note_result(uow, endpoint.id, delivered=True, circuit_until=None, failures=0)
            await delivery_store.end_attempt(
                uow, delivery, "deliver", last_status=answer.status, last_error=""
            )
        else:
            await _count_failure(uow, endpoint, now)
            await _go_on(uow, endpoint, delivery, answer, now)
        return True


async def look(db: Database, tenant: TenantId, now: datetime) -> tuple[list[UUID], list[Delivery]]:
    """The endpoints that are due something, and the deliveries whose lease has ended."""
    async with db.read(tenant) as session:
        due = await delivery_store.load_due_endpoints(session, now)
        return due, await delivery_store.load_expired(session, now, _EXPIRED_AT_ONCE)


async def lose(db: Database, tenant: TenantId, expired: Sequence[Delivery], now: datetime) -> None:
    """Give up on attempts whose worker did not come back: nobody knows whether they arrived, so that they are made again."""
    for each in expired:
        async with db.unit_of_work(tenant) as uow:
            endpoint = await store.load_endpoint(uow, each.endpoint_id, lock=True)
            delivery = await delivery_store.lock_sent(uow, each.id, each.attempts)
            if endpoint is None or delivery is None:
                continue
            await delivery_store.insert_attempt(uow, delivery, Outcome.LOST, error="worker_lost")
            lost = Answer(status=None, error="worker_lost", elapsed_ms=0)
            await _go_on(uow, endpoint, delivery, lost, now, event="lose")
        _log.warning("webhook.lost", delivery_id=str(each.id), attempt=each.attempts)


async def _with_events(
    uow: UnitOfWork, endpoint: Endpoint, taken: list[Delivery], now: datetime
) -> list[Claimed]:
    events = await outbox.load_events(uow, [each.event_id for each in taken])
    sealed = await store.load_secrets(uow, endpoint.id, now)
    if len(events) < len(taken) or not sealed:
        raise InvariantViolated("a delivery without its event, or an endpoint without a secret")
    return [
        Claimed(
            tenant=uow.tenant,
            delivery_id=each.id,
            endpoint_id=endpoint.id,
            number=each.attempts,
            url=endpoint.url,
            event_id=each.event_id,
            type=each.type,
            object_id=each.object_id,
            position=each.position,
            occurred_at=events[each.event_id].occurred_at,
            data=events[each.event_id].data,
            sealed=sealed,
        )
        for each in taken
    ]


def _lets_through(endpoint: Endpoint, now: datetime) -> bool:
    active = endpoint.state == WEBHOOK_ENDPOINTS.initial
    return active and (endpoint.circuit_until is None or endpoint.circuit_until <= now)


async def _count_failure(uow: UnitOfWork, endpoint: Endpoint, now: datetime) -> None:
    failures = endpoint.failures + 1
    pause = circuit_pause(failures)
    await store.note_result(
        uow,
        endpoint.id,
        delivered=False,
        circuit_until=None if pause is None else now + pause,
        failures=failures,
    )
    if failures == CIRCUIT_FAILURES:
        _log.warning("webhook.circuit_opened", endpoint_id=str(endpoint.id), failures=failures)


async def _go_on(
    uow: UnitOfWork,
    endpoint: Endpoint,
    delivery: Delivery,
    answer: Answer,
    now: datetime,
    event: str = "fail",
) -> None:
    """What becomes of a delivery that did not arrive: tried again, given up, or ended with its endpoint."""
    last = {"last_status": answer.status, "last_error": answer.error}
    if answer.outcome is Outcome.GONE or endpoint.state != WEBHOOK_ENDPOINTS.initial:
        await delivery_store.end_attempt(uow, delivery, "abandon", **last)
        if endpoint.state == WEBHOOK_ENDPOINTS.initial:
            await service.switch_off(uow, ACTOR, endpoint, Reason.GONE)
            _log.error("webhook.endpoint_disabled", endpoint_id=str(endpoint.id), reason="gone")
        return
    pause = retry_pause(delivery.tries, randbelow(JITTER_PERCENT_MAX + 1), answer.retry_after_s)
    if pause is not None:
        await delivery_store.end_attempt(uow, delivery, event, next_at=now + pause, **last)
        return
    await delivery_store.end_attempt(uow, delivery, "exhaust", **last)
    await _tell_exhausted(uow, delivery, answer)
    if not await delivery_store.has_delivered_since(uow, endpoint.id, delivery.since):
        # Nothing at all has arrived for as long as the schedule lasts: nobody is there.
        await service.switch_off(uow, ACTOR, endpoint, Reason.EXHAUSTED)
        _log.error("webhook.endpoint_disabled", endpoint_id=str(endpoint.id), reason="exhausted")


async def _tell_exhausted(uow: UnitOfWork, delivery: Delivery, answer: Answer) -> None:
    _log.error("webhook.exhausted", delivery_id=str(delivery.id), status=answer.status, reason=answer.error)
    await outbox.emit(
        uow,
        "webhook_delivery.exhausted",
        delivery.endpoint_id,
        {
            "delivery_id": str(delivery.id),
            "endpoint_id": str(delivery.endpoint_id),
            "event_id": str(delivery.event_id),
            "event_type": delivery.type,
            "sequence": delivery.position,
            "tries": delivery.tries,
            "status": answer.status,
            "error": answer.error,
        },
    )
