"""The feed as it grows, for those in this process who follow it: one reader of the outbox for all of them.

Whoever follows a tenant's feed, or one customer's, has a bounded queue. It is woken by the relay's signal and polls behind it; a
follower who does not keep up loses the queue, not the events: the feed itself stays where it is. What a tenant's customers are
told is read for all of them at once, and each row is given to its own customer's followers alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import structlog
from sqlalchemy.exc import SQLAlchemyError

from custody.db.session import Database
from custody.db.signals import RELAYED, Ear
from custody.events import customers, outbox
from custody.events.model import Event
from custody.kernel.errors import Unavailable
from custody.kernel.ids import CustomerId, TenantId

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


class _Line(NamedTuple):
    """What is read at once: a tenant's feed, or what its customers are told."""

    tenant: TenantId
    of_customers: bool


class Tap:
    """One follower's events, from the moment it began to follow."""

    def __init__(self, start: int, wants: Callable[[Event], bool]) -> None:
        """`start` is the place of its feed behind which it gets every event that it wants."""
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
                    if taking.done() and taking.result().position > self.start:
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
        self._taps: dict[_Line, dict[CustomerId | None, set[Tap]]] = {}
        self._at: dict[_Line, int] = {}
        """Place of the tenant's feed up to which a line was read, also one of customers."""
        self._joining = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None
        self._closed = False

    @asynccontextmanager
    async def follow(
        self, tenant: TenantId, wants: Callable[[Event], bool], customer: CustomerId | None = None
    ) -> AsyncIterator[Tap]:
        """Those events from now on that are wanted, of the tenant's feed or of one customer's.

        Raises FeedEnds in a process that ends.
        """
        line = _Line(tenant, customer is not None)
        async with self._joining:
            if self._closed:
                raise FeedEnds
            if line not in self._at:
                async with self._db.read(tenant) as session:
                    self._at[line] = await outbox.last_position(session)
            tap = Tap(self._at[line], wants)
            self._taps.setdefault(line, {}).setdefault(customer, set()).add(tap)
            if self._running is None:
                self._running = asyncio.get_running_loop().create_task(self._run())
        try:
            if customer is not None:
                # Asked for after the tap was added: what comes meanwhile waits in it, and is skipped if this counts it already.
                async with self._db.read(tenant, customer) as session:
                    tap.start = await customers.last_place(session)
            yield tap
        finally:
            self._leave(line, customer, tap)

    def _leave(self, line: _Line, customer: CustomerId | None, tap: Tap) -> None:
        followed = self._taps.get(line, {})
        left = followed.get(customer, set())
        left.discard(tap)
        if not left:
            followed.pop(customer, None)
        if not followed:
            self._taps.pop(line, None)
            self._at.pop(line, None)

    def end(self) -> None:
        """Tell every follower that this process ends."""
        self._closed = True
        self._end_all()

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
                        for line in list(self._taps):
                            if not heard or line.tenant in heard:
                                await self._read(line)
                    except (SQLAlchemyError, OSError) as error:
                        # The places stand: the next round reads from the same.
                        _log.warning("hub.database_away", reason=type(error).__name__)
                        await self._ear.wait(_AGAIN_S)
        finally:
            # Whatever ended it: nobody waits for events that nobody reads, and the next follower begins anew.
            self._running = None
            self._end_all()

    def _end_all(self) -> None:
        for followed in self._taps.values():
            for taps in followed.values():
                for tap in taps:
                    tap.end(FeedEnds())

    async def _read(self, line: _Line) -> None:
        """Everything behind the last place, to every follower of the line."""
        while (after := self._at.get(line)) is not None:
            up_to, found = await self._behind(line, after)
            # Whoever came or left meanwhile is seen here: no await between the place and what is given out.
            if up_to == after or self._at.get(line) != after:
                return
            self._at[line] = up_to
            followed = self._taps.get(line, {})
            for reader, events in found.items():
                for tap in followed.get(reader, ()):
                    tap.give(events)
            if up_to < after + _BATCH:
                return

    async def _behind(
        self, line: _Line, after: int
    ) -> tuple[int, Mapping[CustomerId, Sequence[Event]] | Mapping[None, Sequence[Event]]]:
        """The next events by whom they are for, and the place of the tenant's feed up to which they were read."""
        async with self._db.read(line.tenant) as session:
            if line.of_customers:
                up_to = min(await outbox.last_position(session), after + _BATCH)
                if up_to == after:
                    return after, {}
                return up_to, await customers.load_between(session, after=after, up_to=up_to)
            events = await outbox.load_feed(session, after=after, types=(), limit=_BATCH)
            return (events[-1].position, {None: events}) if events else (after, {})
