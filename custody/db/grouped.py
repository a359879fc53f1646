"""Requests that share a transaction: they wait for the one before them to end, and then go together.

There is no timer and no task of its own: the first who waits carries out the batch for all who wait, then hands on to the next.
So a lone request never waits, and batches grow with the load. A batch is of one tenant.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class GroupOverloaded(Unavailable):
    """More requests wait than may wait."""

    code = "overloaded"
    public = "Too many requests are waiting; repeat the call with the same key."


class GroupLost(Unavailable):
    """Whoever carried out the batch was stopped. What became of it is not known; the same key finds out."""

    code = "outcome_unknown"
    public = "The outcome is not known; repeat the call with the same key."


class _Waiting(Generic[Item, Answer]):
    """One request. Its future holds the answer, or None when it is its turn to lead."""

    def __init__(self, item: Item, future: asyncio.Future[Answer | None]) -> None:
        self.item = item
        self.future = future


class Grouped(Generic[Item, Answer]):
    """Gathers requests of a kind into batches."""

    def __init__(
        self,
        carry_out: Callable[[TenantId, Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        batch: int = 128,
        waiting: int = 10_000,
    ) -> None:
        """`carry_out` answers every item of a batch, in order; what it raises, each of the batch's callers gets."""
        self._carry_out = carry_out
        self._batch = batch
        self._waiting = waiting
        self._lines: dict[TenantId, deque[_Waiting[Item, Answer]]] = {}
        """Tenants of whom a batch is under way, and who waits behind it."""

    async def submit(self, tenant: TenantId, item: Item) -> Answer:
        """The item's answer. Raises GroupOverloaded (nothing was done), GroupLost, and what the batch raises."""
        line = self._lines.get(tenant)
        if line is None:
            self._lines[tenant] = deque()
        else:
            if len(line) >= self._waiting:
                raise GroupOverloaded(waiting=len(line))
            mine = _Waiting[Item, Answer](item, asyncio.get_running_loop().create_future())
            line.append(mine)
            try:
                answer = await mine.future
            except asyncio.CancelledError:
                if mine.future.done() and not mine.future.cancelled() and mine.future.result() is None:
                    self._hand_on(tenant)
                raise
            if answer is not None:
                return answer
        return await self._lead(tenant, item)

    async def _lead(self, tenant: TenantId, item: Item) -> Answer:
        """Carry out the caller's item with those that wait by now."""
        line = self._lines[tenant]
        others: list[_Waiting[Item, Answer]] = []
        while line and len(others) < self._batch - 1:
            if not (each := line.popleft()).future.done():
                others.append(each)
        try:
            answers = await self._carry_out(tenant, [item, *(each.item for each in others)])
        except BaseException as error:
            told = error if isinstance(error, Exception) else GroupLost()
            for each in others:
                if not each.future.done():
                    each.future.set_exception(told)
            raise
        else:
            for each, answer in zip(others, answers[1:], strict=True):
                if not each.future.done():
                    each.future.set_result(answer)
            return answers[0]
        finally:
            self._hand_on(tenant)

    def _hand_on(self, tenant: TenantId) -> None:
        """Let the next who waits lead, or nobody."""
        line = self._lines[tenant]
        while line:
            following = line.popleft()
            if not following.future.done():
                following.future.set_result(None)
                return
        del self._lines[tenant]
