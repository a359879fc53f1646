"""The feed as it grows, for those in this process who follow it: one reader of the outbox for all of them.

Whoever follows a tenant has a bounded queue. It is woken by the relay's signal and polls behind it; a follower who does not keep
up loses the queue, not the events: the feed itself stays where it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError

from custody.db.session import Database
from custody.db.signals import RELAYED, Ear
from custody.events import outbox
from custody.events.model import Event
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId

QUEUE_MAX = 1000
"""Events that wait for one follower."""
_BATCH = 500
"""Events read at once."""
_EVERY_S = 0.25
"""How often followed tenants are looked at, whatever is heard."""
_AGAIN_S = 1.0

_log = structlog.get_logger(__name__)


class FollowerTooSlow(Unavailable):
    """A follower's queue is full: it goes on from the last event that it has seen."""

    code = "subscriber_too_slow"
    public = "Too many events are waiting: subscribe again after the last sequence that was received."


class FeedEnds(Unavailable):
    """This process stops following."""

    code = "stream_ends"
    public = "The server ends this stream: subscribe again after the last sequence that was received."


class Tap:
    """One follower's events of a tenant, from the moment it began to follow."""

    def __init__(self, start: int, wants: Callable[[Event], bool]) -> None:
        """`start` is the place behind which it gets every event that it wants."""
        self.start = start
        self._wants = wants
        self._queue: asyncio.Queue[Event] = asyncio.Queue(QUEUE_MAX)
        self._end: Unavailable | None = None
        self._ended = asyncio.Event()

    def give(self, events: Collection[Event]) -> None:
        """Put them behind the others, or cut the follower off."""
        try:
            for event in events:
                if self._wants(event):
                    self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.end(FollowerTooSlow())

    def end(self, reason: Unavailable) -> None:
        """Nothing follows."""
        self._end = self._end or reason
        self._ended.set()

    async def events(self) -> AsyncIterator[Event]:
        """Every event as it comes. Raises FollowerTooSlow, FeedEnds."""
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            while self._end is None:
                taking = asyncio.ensure_future(self._queue.get())
                try:
                    await asyncio.wait({taking, ended}, return_when=asyncio.FIRST_COMPLETED)
                    if taking.done():
                        yield taking.result()
                finally:
                    taking.cancel()
        finally:
            ended.cancel()
        raise self._end


class Hub:
    """Reads what any follower of this process follows."""

    def __init__(self, db: Database) -> None:
        """Nothing is read before somebody follows."""
        self._db = db
        self._ear = Ear(db.url, RELAYED)
        self._taps: dict[TenantId, set[Tap]] = {}
        self._at: dict[TenantId, int] = {}
        self._joining = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    @asynccontextmanager
    async def follow(self, tenant: TenantId, wants: Callable[[Event], bool]) -> AsyncIterator[Tap]:
        """Those of the tenant's events from now on that are wanted. Raises FeedEnds in a process that ends."""
        async with self._joining:
            if self._closed:
                raise FeedEnds
            if tenant not in self._at:
                async with self._db.read(tenant) as session:
                    self._at[tenant] = await outbox.last_position(session)
            tap = Tap(self._at[tenant], wants)
            self._taps.setdefault(tenant, set()).add(tap)
            if self._running is None:
                self._running = asyncio.get_running_loop().create_task(self._run())
        try:
            yield tap
        finally:
            left = self._taps.get(tenant, set())
            left.discard(tap)
            if not left:
                self._taps.pop(tenant, None)
                self._at.pop(tenant, None)

    def end(self) -> None:
        """Tell every follower that this process ends."""
        self._closed = True
        for taps in self._taps.values():
            for tap in taps:
                tap.end(FeedEnds())

    async def close(self) -> None:
        """Stop reading."""
        self.end()
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._ear.run())
                while True:
                    heard = await self._ear.wait(_EVERY_S)
                    try:
                        for tenant in heard & self._taps.keys() if heard else list(self._taps):
                            await self._read(tenant)
                    except (SQLAlchemyError, OSError) as error:
                        # The places stand: the next round reads from the same.
                        _log.warning("hub.database_away", reason=type(error).__name__)
                        await self._ear.wait(_AGAIN_S)
        finally:
            # Whatever ended it: nobody waits for events that nobody reads, and the next follower begins anew.
            self._running = None
            for taps in self._taps.values():
                for tap in taps:
                    tap.end(FeedEnds())

    async def _read(self, tenant: TenantId) -> None:
        """Everything behind the last place, to every follower of the tenant."""
        while tenant in self._at:
            after = self._at[tenant]
            async with self._db.read(tenant) as session:
                events = await outbox.load_feed(session, after=after, types=(), limit=_BATCH)
            # Whoever came or left meanwhile is seen here: no await between the place and what is given out.
            if not events or self._at.get(tenant) != after:
                return
            self._at[tenant] = events[-1].position
            for tap in self._taps.get(tenant, ()):
                tap.give(events)
            if len(events) < _BATCH:
                return
