"""How fast a chain is caught up with, and so when it will be: from where the last minute went. Pure but for what it remembers.

An outage ends with a worker that is thousands of blocks behind a head that moves on: what counts is by how much the distance
shrinks, not how many blocks are booked.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

WINDOW = timedelta(seconds=60)
"""What the pace is taken from."""
SAMPLE_EVERY = timedelta(seconds=1)
"""How often it is looked at: steps may be shorter."""


class Progress:
    """Where a worker and the chain's head stood lately."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._seen: deque[tuple[datetime, int, int]] = deque()

    def stands_at(self, now: datetime, height: int, head: int) -> None:
        """Note both. After a reorganisation, or a clock that was set back, the pace is taken anew."""
        seen = self._seen
        if seen and (now < seen[-1][0] or height < seen[-1][1]):
            seen.clear()
        if len(seen) > 1 and now - seen[-2][0] < SAMPLE_EVERY:
            seen.pop()
        seen.append((now, height, head))
        while now - seen[0][0] > WINDOW:
            seen.popleft()

    @property
    def blocks_per_s(self) -> float | None:
        """Blocks booked a second; None until it has been looked at for a while."""
        return None if self._span_s is None else (self._seen[-1][1] - self._seen[0][1]) / self._span_s

    @property
    def eta_s(self) -> float | None:
        """Seconds until the head is reached; None when unknown, or when the distance does not shrink."""
        if not self._seen:
            return None
        (_, height_before, head_before), (_, height, head) = self._seen[0], self._seen[-1]
        if height >= head:
            return 0.0
        gained = (head_before - height_before) - (head - height)
        if self._span_s is None or gained <= 0:
            return None
        return (head - height) * self._span_s / gained

    @property
    def _span_s(self) -> float | None:
        if not self._seen:
            return None
        span = self._seen[-1][0] - self._seen[0][0]
        return span.total_seconds() if span >= SAMPLE_EVERY else None
