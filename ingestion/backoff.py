"""How long to wait after failures in a row. One rule for the loop, for starting, and for each provider."""

from __future__ import annotations

from secrets import SystemRandom

BACKOFF_MAX_S = 30.0
"""Longest wait between two tries."""
BACKOFF_MIN_S = 0.5
"""First wait; it doubles with every failure in a row."""


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row: doubling, capped, and spread so that workers do not knock together."""
    ceiling = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(failures - 1, 10))
    return SystemRandom().uniform(ceiling / 2, ceiling)
