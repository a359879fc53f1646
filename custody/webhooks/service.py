"""What tenants do with their webhook endpoints and deliveries, and how events become deliveries.

Every change is written to the audit log; secrets are shown once, to the caller that made them, and never recorded in clear.

Locks: the endpoint, then its deliveries.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from urllib.parse import urlsplit
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import Database, ReadSession, UnitOfWork
from custody.events import outbox
from custody.events.catalog import EVENTS
from custody.events.errors import UnknownEventType
from custody.events.model import Event
from custody.identity.service import list_tenants
from custody.kernel.errors import InvalidInput
from custody.kernel.ids import new_uuid
from custody.webhooks import delivery_store, store
from custody.webhooks.errors import (
    DeliveryOpen,
    EndpointNotActive,
    ReplayTooLong,
    TooManyEndpoints,
    UnknownDelivery,
    UnknownEndpoint,
)
from custody.webhooks.guard import Rules, check_url
from custody.webhooks.model import (
    ENDPOINTS_MAX,
    OVERLAP_MAX_S,
    REPLAY_MAX,
    Attempt,
    Delivery,
    Endpoint,
    Reason,
    WebhookFigures,
    wants,
)
from custody.webhooks.sealed import SecretBox, new_secret, show_secret
from custody.webhooks.transitions import WEBHOOK_ENDPOINTS


async def create_endpoint(
    uow: UnitOfWork,
    actor: str,
    endpoint_id: UUID,
    *,
    url: str,
    description: str,
    types: Sequence[str],
    rules: Rules,
    box: SecretBox,
) -> tuple[Endpoint, str]:
    """A new endpoint and its secret, which is shown now and never again. Sent whatever is relayed from now on.

    Raises RefusedUrl, UnknownEventType, TooManyEndpoints.
    """
    check_url(url, rules)
    filters = check_filters(types)
    await uow.lock(f"webhook_endpoints/{uow.tenant}")
    if await store.count_kept(uow) >= ENDPOINTS_MAX:
        raise TooManyEndpoints(at_most=ENDPOINTS_MAX)
    made = await store.insert_endpoint(uow, endpoint_id, url=url, description=description, types=filters)
    secret = await _new_secret(uow, endpoint_id, box)
    await audit.record(uow, actor, "webhook_endpoint.create", made.id, _told(made))
    return made, secret


async def change_endpoint(
    uow: UnitOfWork,
    actor: str,
    endpoint_id: UUID,
    *,
    url: str | None,
    description: str | None,
    types: Sequence[str] | None,
    rules: Rules,
) -> Endpoint:
    """Write what is given, keep what is None. What waits already goes to the new URL.

    Raises UnknownEndpoint, RefusedUrl, UnknownEventType.
    """
    known = await _lock(uow, endpoint_id)
    if url is not None:
        check_url(url, rules)
    changed = await store.change_endpoint(
        uow,
        known,
        url=known.url if url is None else url,
        description=known.description if description is None else description,
        types=list(known.types if types is None else check_filters(types)),
    )
    await audit.record(uow, actor, "webhook_endpoint.change", changed.id, _told(changed))
    return changed


async def rotate_secret(
    uow: UnitOfWork, actor: str, endpoint_id: UUID, *, overlap_s: int, now: datetime, box: SecretBox
) -> tuple[Endpoint, str]:
    """A new secret, shown now and never again. The one before it signs beside it for `overlap_s` more; none does at 0.

    Raises UnknownEndpoint, InvalidInput.
    """
    known = await _lock(uow, endpoint_id)
    if not 0 <= overlap_s <= OVERLAP_MAX_S:
        raise InvalidInput(overlap_s=overlap_s)
    await store.end_secrets(uow, known.id, now, now + timedelta(seconds=overlap_s))
    secret = await _new_secret(uow, known.id, box)
    await audit.record(uow, actor, "webhook_endpoint.rotate", known.id, {"overlap_s": overlap_s})
    return known, secret


async def disable(uow: UnitOfWork, actor: str, endpoint_id: UUID) -> Endpoint:
    """Send nothing more. What waits is abandoned; it can be replayed once the endpoint is on again. Again changes nothing.

    Raises UnknownEndpoint.
    """
    known = await _lock(uow, endpoint_id)
    if known.state == WEBHOOK_ENDPOINTS.target_of("disable"):
        return known
    return await switch_off(uow, actor, known, Reason.OPERATOR)


async def enable(uow: UnitOfWork, actor: str, endpoint_id: UUID) -> Endpoint:
    """Send what is relayed from now on. Again changes nothing. Raises UnknownEndpoint."""
    known = await _lock(uow, endpoint_id)
    if known.state == WEBHOOK_ENDPOINTS.initial:
        return known
    changed = await store.move_endpoint(uow, known, "enable", Reason.ON)
    await audit.record(uow, actor, "webhook_endpoint.enable", changed.id, _told(changed))
    return changed


async def delete(uow: UnitOfWork, actor: str, endpoint_id: UUID, now: datetime) -> Endpoint:
    """Switch it off for good; its secrets sign nothing more, its history stays. Again changes nothing. Raises UnknownEndpoint."""
    known = await store.load_endpoint(uow, endpoint_id, lock=True)
    if known is None:
        raise UnknownEndpoint(endpoint=endpoint_id)
    if known.state in WEBHOOK_ENDPOINTS.terminal:
        return known
    changed = await store.move_endpoint(uow, known, "delete", Reason.OPERATOR)
    abandoned = await delivery_store.abandon_waiting(uow, changed.id)
    await store.end_secrets(uow, changed.id, now, now)
    await audit.record(
        uow, actor, "webhook_endpoint.delete", changed.id, {**_told(changed), "abandoned": abandoned}
    )
    return changed


async def switch_off(uow: UnitOfWork, actor: str, known: Endpoint, reason: Reason) -> Endpoint:
    """Disable a locked endpoint that is active, and tell of it: the tenant's other endpoints hear why."""
    changed = await store.move_endpoint(uow, known, "disable", reason)
    abandoned = await delivery_store.abandon_waiting(uow, changed.id)
    told = {**_told(changed), "abandoned": abandoned}
    await outbox.emit(uow, "webhook_endpoint.disabled", changed.id, told)
    await audit.record(uow, actor, "webhook_endpoint.disable", changed.id, told)
    return changed


async def get_endpoint(session: ReadSession, endpoint_id: UUID) -> Endpoint:
    """One endpoint, a deleted one too. Raises UnknownEndpoint."""
    found = await store.load_endpoint(session, endpoint_id)
    if found is None:
        raise UnknownEndpoint(endpoint=endpoint_id)
    return found


async def list_endpoints(session: ReadSession, after: UUID | None, limit: int) -> list[Endpoint]:
    """A page, oldest first."""
    return await store.load_endpoints(session, after, limit)


async def old_secret_until(session: ReadSession, endpoint_id: UUID, now: datetime) -> datetime | None:
    """Until when an older secret signs beside the endpoint's own; None when none does."""
    return await store.load_expiry(session, endpoint_id, now)


async def fan_out(uow: UnitOfWork, events: Sequence[Event]) -> None:
    """One delivery per event and active endpoint that wants it: called in the transaction that places the events in the feed.

    An endpoint is not told of its own trouble: it could not hear it.
    """
    endpoints = await store.hold_active(uow)
    wanted = [
        (endpoint.id, event)
        for event in events
        for endpoint in endpoints
        if wants(endpoint.types, event.type) and event.object_id != endpoint.id
    ]
    # Due from the moment that the event happened: the first try waits for nothing.
    await delivery_store.insert_deliveries(uow, wanted)


async def replay(uow: UnitOfWork, actor: str, delivery_id: UUID, now: datetime) -> Delivery:
    """Send one delivery once more, under its old id. Raises UnknownDelivery, EndpointNotActive, DeliveryOpen."""
    known = await get_delivery(uow, delivery_id)
    await _lock_active(uow, known.endpoint_id)
    queued = await delivery_store.requeue_one(uow, delivery_id, now)
    if queued is None:
        raise DeliveryOpen(delivery=delivery_id)
    await audit.record(
        uow, actor, "webhook_delivery.replay", delivery_id, {"endpoint_id": str(queued.endpoint_id)}
    )
    return queued


async def replay_range(
    uow: UnitOfWork,
    actor: str,
    endpoint_id: UUID,
    *,
    first: int,
    last: int,
    delivered: bool,
    now: datetime,
) -> int:
    """Send an endpoint the events of these places that it wants: those that it was never sent, those that failed, and, when
    `delivered`, those that arrived. What is still being tried stays as it is. Returns how many were queued.

    Raises UnknownEndpoint, EndpointNotActive, ReplayTooLong.
    """
    if first < 1 or not first <= last < first + REPLAY_MAX:
        raise ReplayTooLong(first=first, last=last)
    endpoint = await _lock_active(uow, endpoint_id)
    found = await outbox.load_feed(uow, after=first - 1, up_to=last, types=(), limit=REPLAY_MAX)
    events = [e for e in found if wants(endpoint.types, e.type) and e.object_id != endpoint_id]
    queued = await delivery_store.requeue_events(
        uow, endpoint_id, [event.id for event in events], now, delivered=delivered
    )
    queued += await delivery_store.insert_deliveries(uow, [(endpoint_id, event) for event in events])
    await audit.record(
        uow,
        actor,
        "webhook_endpoint.replay",
        endpoint_id,
        {"first": first, "last": last, "delivered": delivered, "queued": queued},
    )
    return queued


async def get_delivery(session: ReadSession, delivery_id: UUID) -> Delivery:
    """One delivery. Raises UnknownDelivery."""
    found = await delivery_store.load_delivery(session, delivery_id)
    if found is None:
        raise UnknownDelivery(delivery=delivery_id)
    return found


async def list_deliveries(
    session: ReadSession,
    *,
    endpoint_id: UUID | None = None,
    states: Collection[str] = (),
    event_id: UUID | None = None,
    before: UUID | None = None,
    limit: int = 100,
) -> list[Delivery]:
    """A page, newest event first; `before` is the last of the page before. Raises UnknownDelivery for an unknown `before`."""
    place = None
    if before is not None:
        last = await get_delivery(session, before)
        place = (last.position, last.id)
    position = None
    if event_id is not None:
        known = await outbox.load_events(session, [event_id])
        if event_id not in known:
            return []
        position = known[event_id].position
    return await delivery_store.load_deliveries(
        session, endpoint_id=endpoint_id, states=states, position=position, before=place, limit=limit
    )


async def list_attempts(session: ReadSession, delivery_id: UUID, limit: int = 100) -> list[Attempt]:
    """A delivery's attempts, newest first."""
    return await delivery_store.load_attempts(session, delivery_id, limit)


async def figures(db: Database) -> WebhookFigures:
    """How sending stands in all tenants together. Opens transactions of its own, one for each."""
    async with db.read(None) as session:
        tenants = await list_tenants(session)
    found = WebhookFigures()
    for tenant in tenants:
        async with db.read(tenant) as session:
            found = found.plus(await delivery_store.load_figures(session))
    return found


def check_filters(types: Sequence[str]) -> tuple[str, ...]:
    """The filters, each once. Raises UnknownEventType for a name that is neither an event, `object.*` nor `*`."""
    known = {*EVENTS, *(name.partition(".")[0] + ".*" for name in EVENTS), "*"}
    for each in types:
        if each not in known:
            raise UnknownEventType(type=each[:64])
    return tuple(dict.fromkeys(types))


async def _new_secret(uow: UnitOfWork, endpoint_id: UUID, box: SecretBox) -> str:
    secret, secret_id = new_secret(), new_uuid()
    await store.insert_secret(
        uow, endpoint_id, secret_id, box.seal(uow.tenant, endpoint_id, secret_id, secret)
    )
    return show_secret(secret)


async def _lock(uow: UnitOfWork, endpoint_id: UUID) -> Endpoint:
    found = await store.load_endpoint(uow, endpoint_id, lock=True)
    if found is None or found.state in WEBHOOK_ENDPOINTS.terminal:
        raise UnknownEndpoint(endpoint=endpoint_id)
    return found


async def _lock_active(uow: UnitOfWork, endpoint_id: UUID) -> Endpoint:
    found = await _lock(uow, endpoint_id)
    if found.state != WEBHOOK_ENDPOINTS.initial:
        raise EndpointNotActive(state=found.state)
    return found


def _told(endpoint: Endpoint) -> dict[str, object]:
    """An endpoint as events and the audit log tell it: never its path or query, in which receivers put tokens."""
    return {
        "endpoint_id": str(endpoint.id),
        "host": host_of(endpoint.url),
        "types": list(endpoint.types),
        "state": endpoint.state,
        "reason": endpoint.reason.value,
    }


def host_of(url: str) -> str:
    """The host of an accepted URL: all of it that logs and events show."""
    return urlsplit(url).hostname or ""
