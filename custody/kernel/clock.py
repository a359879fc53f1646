"""Where time comes from. Ordering never depends on it; deadlines and records do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """A source of the present moment."""

    def now(self) -> datetime:
        """The present, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """The present by the operating system."""
        return datetime.now(UTC)


class FixedClock:
    """A clock that moves only when told: for simulations and tests."""

    def __init__(self, at: datetime) -> None:
        """`at` must be aware; it is kept in UTC."""
        self._at = at.astimezone(UTC)

    def now(self) -> datetime:
        """The moment it was set to."""
        return self._at

    def advance(self, seconds: int) -> None:
        """Move forward by whole seconds."""
        self._at += timedelta(seconds=seconds)
