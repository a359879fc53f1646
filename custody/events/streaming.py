"""Carry the feed to a broker: at least once, of one object in order, from where the broker last acknowledged.

The place is a row per tenant and stream, moved after the broker's acknowledgement and only from where it was read. Two workers
that carry at the same time therefore lose nothing and repeat at most what the broker recognises by its id.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import SQLAlchemyError

from custody.db.lease import Lease
from custody.db.session import Database, ReadSession, UnitOfWork
from custody.db.signals import RELAYED, Ear
from custody.events.envelope import build_body
from custody.events.errors import BrokerAway
from custody.events.model import Event
from custody.events.outbox import load_feed
from custody.events.ports import Broker, Message
from custody.events.tables import event_streams
from custody.kernel.ids import TenantId, show_id

BATCH = 200
"""Events carried between two moves of the place."""
AT_ONCE = 32
"""Objects whose events are on their way at the same time."""
_EVERY_S = 1.0
"""How often all tenants are looked at, whatever is heard."""
_AGAIN_S = 2.0
"""How long to wait after the broker was away."""

_log = structlog.get_logger(__name__)


class StreamLoop:
    """Carries every tenant's events, in one worker at a time."""

    def __init__(
        self,
        db: Database,
        broker: Broker,
        stream: str,
        prefix: str,
        tenants: Callable[[], Awaitable[Collection[TenantId]]],
    ) -> None:
        """`stream` names our place; `prefix` begins every subject."""
        self._db = db
        self._broker = broker
        self._stream = stream
        self._prefix = prefix
        self._tenants = tenants

    async def run(self, stop: asyncio.Event) -> None:
        """Carry until told to stop; while another worker does, wait."""
        ear = Ear(self._db.url, RELAYED)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(ear.run())
            waiting = group.create_task(_nudge(ear, stop))
            while not stop.is_set():
                try:
                    async with Lease(self._db, f"event_stream/{self._stream}") as lease:
                        await self._hold(lease, ear, stop)
                except (SQLAlchemyError, OSError) as error:
                    _log.warning("event_stream.database_away", reason=type(error).__name__)
                await ear.wait(_AGAIN_S)
            listening.cancel()
            waiting.cancel()
        await self._broker.close()

    async def _hold(self, lease: Lease, ear: Ear, stop: asyncio.Event) -> None:
        heard: set[TenantId] = set()
        while not stop.is_set() and await lease.take():
            try:
                for tenant in heard or await self._tenants():
                    while await carry(self._db, self._broker, self._stream, self._prefix, tenant) == BATCH:
                        pass
            except BrokerAway as error:
                _log.warning("event_stream.waiting", stream=self._stream, error=str(error))
                await ear.wait(_AGAIN_S)
                heard = set()
                continue
            heard = await ear.wait(_EVERY_S)


async def carry(db: Database, broker: Broker, stream: str, prefix: str, tenant: TenantId) -> int:
    """Carry one batch of a tenant's events and move the place. Returns how many the broker has acknowledged from its beginning.

    No transaction is open while the broker is spoken to. Raises BrokerAway when the batch went no further than that.
    """
    async with db.read(tenant) as session:
        start = await place(session, stream)
        events = await load_feed(session, after=start, types=(), limit=BATCH)
    if not events:
        return 0
    stored, trouble = await _publish(broker, [_message(prefix, event) for event in events])
    done = next((n for n, event in enumerate(events) if event.position not in stored), len(events))
    if done:
        async with db.unit_of_work(tenant) as uow:
            await _move(uow, stream, start, events[done - 1].position)
    if trouble is not None:
        raise trouble
    return done


async def place(session: ReadSession, stream: str) -> int:
    """The last place of the tenant's feed that the broker has acknowledged; 0 before the first."""
    rows = await session.conn.execute(
        select(event_streams.c.position).where(
            event_streams.c.tenant_id == session.tenant, event_streams.c.stream == stream
        )
    )
    return int(rows.scalar_one_or_none() or 0)


async def _publish(broker: Broker, messages: Sequence[Message]) -> tuple[set[int], BrokerAway | None]:
    """The places that were stored, and what kept the others. Of one object the next is sent only when the last is stored."""
    by_key: dict[object, list[Message]] = defaultdict(list)
    for message in messages:
        by_key[message.key].append(message)
    room = asyncio.Semaphore(AT_ONCE)
    stored: set[int] = set()
    troubles: list[BrokerAway] = []

    async def one_object(waiting: Sequence[Message]) -> None:
        async with room:
            for message in waiting:
                if troubles:
                    return
                try:
                    await broker.publish(message)
                except BrokerAway as error:
                    troubles.append(error)
                    return
                stored.add(message.position)

    async with asyncio.TaskGroup() as group:
        for waiting in by_key.values():
            group.create_task(one_object(waiting))
    return stored, troubles[0] if troubles else None


async def _move(uow: UnitOfWork, stream: str, start: int, end: int) -> None:
    """Move the place, unless another worker has moved it meanwhile: it sent the same."""
    if start == 0:
        await uow.conn.execute(
            upsert(event_streams)
            .values(tenant_id=uow.tenant, stream=stream, position=0)
            .on_conflict_do_nothing()
        )
    await uow.conn.execute(
        update(event_streams)
        .where(
            event_streams.c.tenant_id == uow.tenant,
            event_streams.c.stream == stream,
            event_streams.c.position == start,
        )
        .values(position=end, changed_at=func.clock_timestamp())
    )


def _message(prefix: str, event: Event) -> Message:
    return Message(
        subject=f"{prefix}.{event.tenant}.{event.type}",
        id=show_id("evt", event.id),
        key=event.object_id,
        position=event.position,
        body=build_body(
            event_id=event.id,
            event_type=event.type,
            position=event.position,
            object_id=event.object_id,
            occurred_at=event.occurred_at,
            data=event.data,
        ),
    )


async def _nudge(ear: Ear, stop: asyncio.Event) -> None:
    await stop.wait()
    ear.nudge()
