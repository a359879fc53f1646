"""When the system may ask for the same thing again that was refused, rejected, or failed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from custody.withdrawals.model import PastRefill

PAUSE, PAUSE_MAX = timedelta(minutes=1), timedelta(days=1)
"""How long after a request that ended unpaid the next one is made, and at most."""


def next_number(past: Sequence[PastRefill], now: datetime) -> int | None:
    """The number of the next request, counted from 1; None while one is open, or for a pause that doubles with each that ended
    unpaid. It names the request, so that two rounds ask for one and the same."""
    if any(each.is_open for each in past):
        return None
    unpaid = next((count for count, each in enumerate(reversed(past)) if each.paid), len(past))
    if unpaid and now < past[-1].changed_at + min(PAUSE * 2 ** min(unpaid - 1, 16), PAUSE_MAX):
        return None
    return len(past) + 1
