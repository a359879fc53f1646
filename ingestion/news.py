"""A hint that there may be a new block. Nothing is taken from it but the moment: what is there is asked of the source."""

from __future__ import annotations

import asyncio

from ingestion.pause import pause

GAP_S = 0.1
"""However often somebody cries, so long passes between two looks."""


class News:
    """Wakes whoever waits at the tip."""

    def __init__(self) -> None:
        """No news yet."""
        self._arrived = asyncio.Event()

    def arrive(self) -> None:
        """There may be a new block."""
        self._arrived.set()

    async def wait(self, stop: asyncio.Event, longest_s: float) -> None:
        """Return when news has come, `stop` is set, or the time is over; not before a moment has passed."""
        await pause(stop, min(GAP_S, longest_s))
        waiting = [asyncio.ensure_future(each.wait()) for each in (self._arrived, stop)]
        try:
            await asyncio.wait(
                waiting, timeout=max(0.0, longest_s - GAP_S), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        self._arrived.clear()
