"""Looks up in one question what is asked for together: a page of fifty rows asks fifty times for what one statement finds.

There is no task of its own. The first who asks lets all others have their say, which takes one turn of the loop, and then asks
for all of them; who asks alone waits for nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Key = TypeVar("Key")
Found = TypeVar("Found")


class Loader(Generic[Key, Found]):
    """Lives as long as one request; what was asked for once is remembered."""

    def __init__(self, load: Callable[[list[Key]], Awaitable[Sequence[Found]]]) -> None:
        """`load` answers every key, in order."""
        self._load = load
        self._known: dict[Key, asyncio.Future[Found]] = {}
        self._gathering: list[Key] | None = None

    async def load(self, key: Key) -> Found:
        """What is found for this key. Raises what `load` raises, to everybody who asked with it."""
        known = self._known.get(key)
        if known is not None:
            return await known
        self._known[key] = asyncio.get_running_loop().create_future()
        if self._gathering is not None:
            self._gathering.append(key)
            return await self._known[key]
        return await self._lead(key)

    async def _lead(self, key: Key) -> Found:
        keys = self._gathering = [key]
        try:
            try:
                await asyncio.sleep(0)
            finally:
                self._gathering = None
            found = await self._load(keys)
        except Exception as error:
            for future in self._asked(keys):
                future.set_exception(error)
                future.exception()  # seen, also where nobody else has asked
            raise
        except BaseException:
            for future in self._asked(keys):
                future.cancel()
            raise
        for future, each in zip(self._asked(keys), found, strict=True):
            future.set_result(each)
        return found[0]

    def _asked(self, keys: list[Key]) -> list[asyncio.Future[Found]]:
        return [self._known[each] for each in keys]
