"""Clients that send a plan, note what they were told, and send again what nobody answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from custody.kernel.ids import TenantId
from custody.ledger.model import Outcome
from tests.faults.doors import Door, Unanswered
from tests.faults.plan import Chain, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one call was answered."""

    chain: Chain
    outcomes: tuple[Outcome, ...]
    asked_at: datetime
    """When the chain was sent for the first time."""
    told_at: datetime
    """When this answer came."""


class Journal:
    """The clients' own memory: every acknowledged outcome, in the order in which the answers came. Lines are only added."""

    def __init__(self, path: Path) -> None:
        """Lines go to this file as they come, so that a run that went wrong can be read afterwards."""
        self.told: list[Told] = []
        self.attempts = 0
        self.unanswered = 0
        self._marks: list[tuple[int, asyncio.Event]] = []
        self._file = path.open("a", encoding="utf-8")

    def asked(self, chain: Chain) -> datetime:
        """A chain is sent, again or for the first time."""
        self.attempts += 1
        now = datetime.now(UTC)
        self._write({"at": now, "asked": [getattr(c, "id", None) for c in chain]})
        return now

    def answered(self, told: Told) -> None:
        """The answer is here: from now on the ledger is bound by it."""
        self.told.append(told)
        for count, reached in self._marks:
            if len(self.told) >= count:
                reached.set()
        self._write({"at": told.told_at, "told": [outcome._asdict() for outcome in told.outcomes]})

    async def reached(self, count: int) -> None:
        """Return when so many calls have been answered."""
        reached = asyncio.Event()
        self._marks.append((count, reached))
        if len(self.told) < count:
            await reached.wait()

    def lost(self) -> None:
        """The call broke off."""
        self.unanswered += 1

    def close(self) -> None:
        """No more lines."""
        self._file.close()

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, default=str) + "\n")
        self._file.flush()


async def client(door: Door, tenant: TenantId, chains: Sequence[Chain], journal: Journal) -> None:
    """Send one chain after the other, each until it is answered."""
    for chain in chains:
        asked_at = None
        while True:
            at = journal.asked(chain)
            asked_at = asked_at or at
            try:
                outcomes = await door.submit(tenant, chain)
            except Unanswered:
                journal.lost()
                await asyncio.sleep(0.01)
                continue
            journal.answered(
                Told(chain=chain, outcomes=outcomes, asked_at=asked_at, told_at=datetime.now(UTC))
            )
            break


async def drive(doors: Sequence[Door], tenant: TenantId, plan: Plan, journal: Journal) -> None:
    """All clients at once, dealt out to the doors. Returns when every chain has been answered."""
    async with asyncio.TaskGroup() as group:
        for number, chains in enumerate(plan.clients):
            group.create_task(client(doors[number % len(doors)], tenant, chains, journal))
