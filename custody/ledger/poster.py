"""Many requests, one commit: postings wait here for the call before them to end, and then go together.

There is no timer. While one batch is being committed the next one gathers, so that batches grow with the load and a lone request
never waits. Requests wait in this process, not in Postgres, where waiters would hold connections and locks.

Under load a second pipe works in turn with the first: while Postgres posts one batch, the next is written out and sent, so that
neither side waits for the other. Postgres lets one of them at the accounts at a time (`ledger_post`, gated).

A batch is of one tenant. Every request in it is one chain, answered by itself. When the connection is lost with a batch under
way, nobody knows whether it was committed; it is sent again as it was, and its ids see to it that nothing is done twice. Its
outcomes may then say `replayed` although their callers asked once.

Two lanes: bulk work fills what interactive requests leave, never more than a part of a batch, so that it cannot make them wait
long; every few batches it goes first, so that it moves on under any load.

Everything it touches is an argument (the channel, the pause between attempts), so that a seeded simulation can drive it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice

from custody.kernel.ids import TenantId
from custody.ledger.channel import Channel, ChannelLost, StopMark, StoppedSince
from custody.ledger.errors import (
    LedgerBusy,
    LedgerOutcomeUnknown,
    LedgerOverloaded,
    LedgerStopping,
    PostingFailed,
)
from custody.ledger.model import Command, Outcome

BULK_TURN = 4
"""Every so many batches, bulk work goes first."""


class Lane(Enum):
    """How patient a request is."""

    INTERACTIVE = "interactive"
    """Somebody waits for it."""
    BULK = "bulk"
    """An import or a run of payouts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much is taken at once, and how much may wait."""

    batch: int = 500
    """Commands in one call to the ledger. A longer chain goes alone."""
    bulk: int = 250
    """Of which at most so many from the bulk lane."""
    queued: int = 10_000
    """Commands that may wait, over both lanes; beyond that, requests are turned away."""
    second_pipe: int = 250
    """Commands that must wait before the second pipe takes any: smaller batches would cost more than the overlap saves."""


@dataclass(slots=True, eq=False)
class _Request:
    """One chain and who waits for its answer."""

    commands: tuple[Command, ...]
    answer: asyncio.Future[tuple[Outcome, ...]]
    mark: StopMark | None


Queue = OrderedDict[TenantId, deque[_Request]]
"""A lane: tenants take turns, a tenant's requests keep their order."""


class Poster:
    """Gathers chains into batches and posts them over two channels, one batch after the other on each."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Channel]],
        pause: Callable[[int], Awaitable[None]],
        bounds: Bounds | None = None,
    ) -> None:
        """`connect` opens a channel or raises ChannelLost; `pause(attempt)` waits before an attempt is repeated."""
        self._bounds = bounds or Bounds()
        self._pipes = tuple(_Pipe(connect, pause, least) for least in (1, self._bounds.second_pipe))
        self._lanes: dict[Lane, Queue] = {lane: OrderedDict() for lane in Lane}
        self._queued = 0
        self._batches = 0
        self._stopping = False

    async def submit(
        self, tenant: TenantId, *commands: Command, lane: Lane = Lane.INTERACTIVE
    ) -> tuple[Outcome, ...]:
        """Post one chain and wait for its outcomes; a refusal is an outcome. Idempotent by the commands' ids.

        Raises LedgerOverloaded, LedgerStopping and PostingFailed (nothing was done), LedgerOutcomeUnknown (ask again with the
        same ids). A caller that is cancelled while its chain still waits takes it back; later than that it is carried out.
        """
        (request,) = self._enqueue(tenant, [commands], lane, None)
        return await request.answer

    async def submit_all(
        self,
        tenant: TenantId,
        chains: Sequence[Sequence[Command]],
        lane: Lane = Lane.BULK,
        mark: StopMark | None = None,
    ) -> list[tuple[Outcome, ...]]:
        """Post many chains, each by itself, and wait for all outcomes. All are queued or none; see `submit`.

        With a mark, a chain whose turn comes after a newer stop is not posted, and has no outcomes: look at the switches again.

        When it raises anything but LedgerOverloaded or LedgerStopping, some may have been carried out: ask again with the same
        ids.
        """
        requests = self._enqueue(tenant, [tuple(chain) for chain in chains], lane, mark)
        return list(await asyncio.gather(*(request.answer for request in requests)))

    @property
    def queued(self) -> int:
        """Commands that wait to be taken into a batch."""
        return self._queued

    def _enqueue(
        self, tenant: TenantId, chains: Sequence[tuple[Command, ...]], lane: Lane, mark: StopMark | None
    ) -> list[_Request]:
        size = sum(map(len, chains))
        if self._stopping:
            raise LedgerStopping
        if self._queued and self._queued + size > self._bounds.queued:
            raise LedgerOverloaded("", queued=self._queued)
        loop = asyncio.get_running_loop()
        requests = [_Request(chain, loop.create_future(), mark) for chain in chains]
        lines = self._lanes[lane]
        for request in requests:
            if request.commands:
                if tenant not in lines:
                    lines[tenant] = deque()
                lines[tenant].append(request)
            else:
                request.answer.set_result(())
        self._queued += size
        self._wake()
        return requests

    def stop(self) -> None:
        """Take no more; `run` ends when what waits has been answered."""
        self._stopping = True
        self._wake()

    async def run(self) -> None:
        """Post until stopped. Cancelled, it leaves every request that is not answered with LedgerOutcomeUnknown."""
        try:
            async with asyncio.TaskGroup() as group:
                for pipe in self._pipes:
                    group.create_task(self._serve(pipe))
        finally:
            self._stopping = True
            waiting = [request for lane in self._lanes.values() for line in lane.values() for request in line]
            for request in waiting:
                _give_up(request)

    async def _serve(self, pipe: _Pipe) -> None:
        """Give one pipe its batches."""
        taken: list[_Request] = []
        try:
            while self._queued or not self._stopping:
                if self._queued < pipe.least and not self._stopping:
                    pipe.work.clear()
                    await pipe.work.wait()
                    continue
                tenant, taken = self._take()
                if tenant is not None:
                    await pipe.post(tenant, taken)
                    # Whoever got an answer may ask again at once: one turn of the loop lets that join the next batch.
                    await asyncio.sleep(0)
        finally:
            for request in taken:
                _give_up(request)
            await pipe.hang_up()

    def _wake(self) -> None:
        for pipe in self._pipes:
            if self._queued >= pipe.least or self._stopping:
                pipe.work.set()

    def _take(self) -> tuple[TenantId | None, list[_Request]]:
        """The next batch: of the tenant whose turn it is, interactive requests first."""
        self._batches += 1
        order = [Lane.INTERACTIVE, Lane.BULK]
        if self._batches % BULK_TURN == 0:
            order.reverse()
        tenant = next((next(iter(self._lanes[lane])) for lane in order if self._lanes[lane]), None)
        if tenant is None:
            return None, []
        bounds, taken, size = self._bounds, list[_Request](), 0
        for lane in order:
            limit = bounds.batch if lane is Lane.INTERACTIVE else min(bounds.batch, size + bounds.bulk)
            line = self._lanes[lane].pop(tenant, None) or deque()
            while line and (not taken or size + len(line[0].commands) <= limit):
                request = line.popleft()
                self._queued -= len(request.commands)
                if not request.answer.cancelled():
                    taken.append(request)
                    size += len(request.commands)
            if line:
                self._lanes[lane][tenant] = line
        return tenant, taken


def _give_up(request: _Request) -> None:
    if not request.answer.done():
        request.answer.set_exception(LedgerOutcomeUnknown())


class _Pipe:
    """One channel, and the batch that is under way on it."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Channel]],
        pause: Callable[[int], Awaitable[None]],
        least: int,
    ) -> None:
        """`least` is how many commands must wait before this pipe takes any."""
        self._connect = connect
        self._pause = pause
        self.least = least
        self.work = asyncio.Event()
        self._channel: Channel | None = None

    async def post(self, tenant: TenantId, requests: list[_Request]) -> None:
        """Post until the outcome is known. A batch that cannot be posted at all is cut in two, so that one bad request
        spoils only its own answer."""
        if not requests:
            return
        try:
            outcomes = iter(await self._answered(tenant, requests))
        except StoppedSince:
            for request in requests:
                if request.mark is not None and not request.answer.done():
                    request.answer.set_result(())
            await self.post(tenant, [request for request in requests if request.mark is None])
            return
        except PostingFailed as error:
            if len(requests) > 1:
                middle = len(requests) // 2
                await self.post(tenant, requests[:middle])
                await self.post(tenant, requests[middle:])
            elif not requests[0].answer.done():
                requests[0].answer.set_exception(error)
            return
        for request in requests:
            answer = tuple(islice(outcomes, len(request.commands)))
            if not request.answer.done():
                request.answer.set_result(answer)

    async def _answered(self, tenant: TenantId, requests: list[_Request]) -> list[Outcome]:
        """The outcomes of all commands. Sends the same ids again, as often as it takes, while it cannot know.

        Raises StoppedSince, where something was stopped that one of them had not seen."""
        mark = min(
            (each.mark for each in requests if each.mark is not None),
            key=lambda each: each.newest,
            default=None,
        )
        attempt = 0
        while True:
            try:
                if self._channel is None:
                    self._channel = await self._connect()
                return await self._channel.post(tenant, [request.commands for request in requests], mark)
            except LedgerBusy:
                pass  # rolled back, nothing was done: the same call again may do it
            except ChannelLost:
                await self.hang_up()
            attempt += 1
            await self._pause(attempt)

    async def hang_up(self) -> None:
        """Close the channel, if there is one."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()
