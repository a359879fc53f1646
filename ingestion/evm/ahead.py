"""The next batch of blocks is asked for while one is proved and booked: a catch-up then takes as long as its node takes.

Who uses it asks ahead only what does not depend on who is ours (`ingestion/backfill/service.py` has the argument), and compares
what was had with the node's chain before use, so that it is no older than what is asked for now.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

DEPTH = 1
"""Batches that are asked for ahead: providers count what is in flight. Two gave a third more blocks a second of a local
anvil, which then took both processors, and a smaller share of bare fetching with as many in flight (0.58 for 0.65)."""


class Ahead(Generic[_T]):
    """DEPTH questions in flight, each about the batch after the other."""

    def __init__(self, question: Callable[[int, int], Coroutine[Any, Any, _T]], batch: int) -> None:
        """`question` asks for blocks from one height to another, both included; `batch` blocks at once."""
        self._question = question
        self._batch = batch
        self._asked: deque[tuple[int, asyncio.Task[_T]]] = deque()

    def ask(self, first: int) -> None:
        """See that the batches from this height on are asked for. They are, where `take` was called for the one below."""
        for place in range(len(self._asked), DEPTH):
            begins = first + place * self._batch
            self._asked.append(
                (begins, asyncio.create_task(self._question(begins, begins + self._batch - 1)))
            )

    async def take(self, first: int) -> _T | None:
        """The answer about the batch from this height on, once; None when it was not asked for. Raises what the question raised.

        Where another height is wanted than comes next, or an answer failed, all that was asked for is given up.
        """
        if not self._asked or self._asked[0][0] != first:
            await self.abandon()
            return None
        _, task = self._asked.popleft()
        try:
            return await task
        except BaseException:
            await self.abandon()
            raise

    async def abandon(self) -> None:
        """End what is no longer wanted; how it ends matters to nobody."""
        tasks = {task for _, task in self._asked}
        self._asked.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()
