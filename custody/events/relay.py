"""Carry events from the outbox to those who wait for them: today the worker's wake-ups."""

from __future__ import annotations

from custody.db.session import Database
from custody.events.catalog import EVENTS
from custody.events.outbox import take_unrelayed
from custody.events.wakeup import Waker
from custody.kernel.ids import TenantId

BATCH = 200
"""Events taken in one transaction."""


async def relay(database: Database, waker: Waker, tenant: TenantId) -> int:
    """Mark one batch as relayed, commit, then wake whoever the catalog names. Returns how many events it took."""
    async with database.unit_of_work(tenant) as uow:
        events = await take_unrelayed(uow, BATCH)
    for event in events:
        job = EVENTS[event.type]
        if job is not None:
            await waker.wake(job, event.tenant, event.object_id, event.trace_id)
    return len(events)
