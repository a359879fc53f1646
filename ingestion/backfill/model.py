"""A range of blocks that is read beside the live loop, for one account or for every vault. Frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from custody.kernel.assetid import ChainId

EVERY_VAULT = ""
"""The account of a backfill that takes every vault's facts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """One range, both ends included, and how far it is."""

    id: UUID
    """Its own; the lease is named after it."""
    chain: ChainId
    """Where."""
    account: str
    """Whose history; EVERY_VAULT for that of all."""
    registered: bool
    """Whether the account's registration asked for it; else an operator did."""
    first: int
    """Lowest block."""
    last: int
    """Highest block; one below the first where there is nothing to read."""
    next: int
    """Everything from the first up to below this is booked."""
    stands_on: str
    """Hash of the block below the next; empty before the first was read."""
    fence: int
    """Counts the processes that took it over."""
    holder: str
    """Who did last: host and process."""
    halted: str
    """Why it cannot go on; empty while it can."""
    started_at: datetime | None
    """When the latest process began."""
    started: int | None
    """At which block it began."""
    updated_at: datetime
    """When it last moved."""

    @property
    def is_done(self) -> bool:
        """Whether every block of the range is booked."""
        return self.next > self.last

    @property
    def blocks(self) -> int:
        """How many blocks the range has."""
        return self.last - self.first + 1

    @property
    def blocks_done(self) -> int:
        """How many of them are booked."""
        return self.next - self.first

    @property
    def blocks_per_s(self) -> float | None:
        """Rate of the latest process up to its last step; None before it has moved. Figures for people, not money."""
        if self.started_at is None or self.started is None or self.next == self.started:
            return None
        seconds = (self.updated_at - self.started_at).total_seconds()
        return (self.next - self.started) / seconds if seconds > 0 else None

    @property
    def eta_s(self) -> float | None:
        """Seconds until it is done at that rate; None while nobody can say."""
        if self.is_done:
            return 0.0
        rate = self.blocks_per_s
        return None if rate is None else (self.last - self.next + 1) / rate
