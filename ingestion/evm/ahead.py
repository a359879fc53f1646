"""The next batch of blocks is asked for while the last one is proved and booked: a catch-up then takes as long as its node takes.

Who uses it asks ahead only what does not depend on who is ours (`ingestion/backfill/service.py` has the argument), and compares
what was had with the node's chain before use, so that it is no older than what is asked for now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


class Ahead(Generic[_T]):
    """At most one question in flight, by the height that it begins at."""

    def __init__(self) -> None:
        """Nothing is asked."""
        self._asked: tuple[int, asyncio.Task[_T]] | None = None

    async def ask(self, first: int, question: Coroutine[Any, Any, _T]) -> None:
        """Ask, in the stead of whatever was asked before."""
        await self.abandon()
        self._asked = first, asyncio.create_task(question)

    async def take(self, first: int) -> _T | None:
        """The answer, once; None when something else was asked. Raises what the question raised."""
        if self._asked is None or self._asked[0] != first:
            await self.abandon()
            return None
        (_, task), self._asked = self._asked, None
        return await task

    async def abandon(self) -> None:
        """End what is no longer wanted; how it ends matters to nobody."""
        if self._asked is None:
            return
        (_, task), self._asked = self._asked, None
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
