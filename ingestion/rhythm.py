"""When the next block is likely to be there: chains close their blocks in a rhythm, so that asking at the right moments finds
them sooner than asking more often. Nothing hangs on it but the moment of the next question. Pure.
"""

from __future__ import annotations

from collections import deque
from statistics import median

KEPT = 8
"""Intervals that tell the rhythm."""
KNOWN_FROM = 3
"""Fewer tell nothing."""
FINE_PARTS = 10
"""Of the time in which a block is likely to come: one question in each. A chain that keeps no rhythm is not asked more for it."""
FINE_S = 0.05
"""Never closer than this."""
LATE = 1.5
"""A block that takes so many times longer than the usual is not waited for closely."""


class Rhythm:
    """Remembers when blocks were found by a loop that had waited for them."""

    def __init__(self, poll_interval_s: float) -> None:
        """`poll_interval_s`: how long to wait where nothing is known."""
        self._usual_s = poll_interval_s
        self._intervals_s: deque[float] = deque(maxlen=KEPT)
        self._found_at: float | None = None
        self._waited = False

    def found(self, asked_at: float) -> None:
        """The question that was asked then found blocks. Without a wait before it, the loop was behind and learns nothing."""
        if self._waited and self._found_at is not None:
            self._intervals_s.append(asked_at - self._found_at)
        self._found_at = asked_at
        self._waited = False

    def wait_s(self, now: float) -> float:
        """How long to wait for the next question."""
        self._waited = True
        if self._found_at is None or len(self._intervals_s) < KNOWN_FROM:
            return self._usual_s
        early, late = min(self._intervals_s), min(max(self._intervals_s), LATE * median(self._intervals_s))
        fine = min(self._usual_s, max(FINE_S, (late - early) / FINE_PARTS))
        since = now - self._found_at
        if since < early - fine:
            return min(self._usual_s, max(fine, early - fine - since))
        return fine if since < late + fine else self._usual_s
