"""Carry events from the outbox to those who wait for them: the worker by wake-ups, whoever listens at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from custody.db.session import Database, UnitOfWork
from custody.db.signals import RELAYED
from custody.events import customers
from custody.events.catalog import EVENTS
from custody.events.model import Event
from custody.events.outbox import take_unrelayed
from custody.events.wakeup import Waker
from custody.kernel.ids import TenantId

Listener = Callable[[UnitOfWork, Sequence[Event]], Awaitable[None]]
"""Derives what follows from events, in the transaction that marks them."""

BATCH = 200
"""Events taken in one transaction."""


async def relay(database: Database, waker: Waker, tenant: TenantId, listener: Listener | None = None) -> int:
    """Mark one batch as relayed, tell customers and the listener, commit, then wake whoever the catalog names.

    Returns how many events it took. They are told of each event exactly once, in the order of places, as far as transactions can
    promise.
    """
    async with database.unit_of_work(tenant) as uow:
        events = await take_unrelayed(uow, BATCH)
        await customers.tell(uow, events)
        if events and listener is not None:
            await listener(uow, events)
    if events:
        database.tell(RELAYED, {tenant})
    for event in events:
        job = EVENTS[event.type]
        if job is not None:
            await waker.wake(job, event.tenant, event.object_id, event.trace_id)
    return len(events)
