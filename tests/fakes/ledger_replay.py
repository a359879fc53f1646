"""The oracle, taken through the history that the database tells: what was answered must be what follows.

The database's own order of what it applied is (time of booking, batch, leaf): on every account it agrees with the order of the
locks. A refusal leaves no transfer; it must follow from the state at its own time. Where it says that something was not found, no
lock puts it and the one who makes that thing in order: what nobody knew to be booked when the question was sent may be unseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from custody.db.session import ReadSession
from custody.kernel.assetid import AssetId
from custody.ledger import service
from custody.ledger.model import (
    ChangeAccount,
    Command,
    ExpireHold,
    Hold,
    OpenAccount,
    PostHold,
    Reverse,
    Transfer,
    VoidHold,
)
from tests.fakes.ledger_oracle import Answer, Oracle

_APPLIED = text(
    "SELECT id, chain_id, batch_id, booked_at, debit_version, debit_balance, credit_version, credit_balance"
    "  FROM ledger_transfers ORDER BY booked_at, batch_id, leaf"
)
_RECORDED = text("SELECT id, result, booked_at FROM ledger_commands")
Chain = Sequence[Command]
Movement = Transfer | Hold | PostHold | VoidHold | ExpireHold | Reverse


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A chain of which nothing was applied."""

    chain: Chain
    results: list[str]
    booked_at: datetime
    unseen: list[UUID]
    """What it says it did not find, and nobody had been told of when it was sent."""


class Replay:
    """One tenant's history against the chains that were sent. `troubles` says in words what does not fit."""

    def __init__(
        self,
        listed: set[AssetId],
        chains: Sequence[Chain],
        asked: Mapping[UUID, datetime],
        told: Mapping[UUID, datetime],
    ) -> None:
        """`asked` and `told` say by a chain's first id when it was first sent and when its first answer came."""
        self.oracle = Oracle(listed)
        self.troubles: list[str] = []
        self._chains = {first_id(chain): chain for chain in chains}
        self._asked = asked
        self._tried: dict[UUID, list[str]] = {}
        self._told = {c.id: told.get(first) for first, chain in self._chains.items() for c in booked(chain)}

    async def run(self, session: ReadSession) -> None:
        """Read everything, replay it, compare the accounts at the end."""
        rows = [dict(row) for row in (await session.conn.execute(_APPLIED)).mappings()]
        recorded = {row.id: row for row in await session.conn.execute(_RECORDED)}
        for chain in self._chains.values():
            for command in chain:
                if isinstance(command, OpenAccount):
                    self.oracle.submit([[command]])
        refusals = sorted(self._refusals(recorded), key=lambda refusal: refusal.booked_at)
        self._replay(rows, refusals)
        for key, books in self.oracle.state.accounts.items():
            found = await service.balance(session, key)
            expected = (books.balance, books.incoming, books.held, books.version)
            if (found.posted, found.pending_in, found.pending_out, found.version) != expected:
                self.troubles.append(f"{key.kind} {key.owner} is {found}, not {expected}")

    def _refusals(self, recorded: Mapping[UUID, Any]) -> Iterator[Refusal]:
        for first, chain in self._chains.items():
            commands = booked(chain)
            rows = [recorded[c.id] for c in commands if c.id in recorded]
            if len(rows) < len(commands):
                if rows:
                    self.troubles.append(f"chain {first} is recorded in part")
                continue
            results = [row.result for row in rows]
            applied = results.count("applied")
            if applied not in (0, len(results)):
                self.troubles.append(f"chain {first} is torn: {results}")
            if not applied:
                missed = [c for c, name in zip(commands, results, strict=True) if name.endswith("_not_found")]
                unseen = [id_ for id_ in named(missed) if not self._known(id_, first)]
                yield Refusal(chain=commands, results=results, booked_at=rows[0].booked_at, unseen=unseen)

    def _known(self, id_: UUID, first: UUID) -> bool:
        """Whether somebody had been told of this id when that chain was sent."""
        told = self._told.get(id_)
        return told is not None and first in self._asked and told <= self._asked[first]

    def _replay(self, rows: Sequence[dict[str, Any]], refusals: Sequence[Refusal]) -> None:
        """Apply the chains in order; between any two of them, try the refusals that may have been decided there."""
        open_refusals = list(refusals)
        position = 0
        while True:
            before = rows[position - 1]["booked_at"] if position else None
            after = rows[position]["booked_at"] if position < len(rows) else None
            open_refusals = [r for r in open_refusals if not self._explained(r, before, after)]
            if position == len(rows):
                break
            position += self._apply(rows, position)
        for refusal in open_refusals:
            tried = self._tried.get(first_id(refusal.chain))
            self.troubles.append(f"no state explains {refusal.results} of {refusal.chain}, but {tried}")

    def _explained(self, refusal: Refusal, before: datetime | None, after: datetime | None) -> bool:
        """Whether the state now, with `before` booked and `after` not yet, gives this refusal."""
        too_early = after is not None and after < refusal.booked_at
        too_late = before is not None and before > refusal.booked_at
        if too_early or too_late:
            return False
        answers = self.oracle.would_answer(refusal.chain)
        if [a.result for a in answers] != refusal.results and refusal.unseen:
            answers = self.oracle.would_answer(refusal.chain, refusal.unseen)
        self._tried[first_id(refusal.chain)] = [a.result for a in answers]
        return [a.result for a in answers] == refusal.results

    def _apply(self, rows: Sequence[dict[str, Any]], position: int) -> int:
        """The chain that begins here; how many rows it has."""
        first = rows[position]["chain_id"]
        chain = self._chains.get(first)
        if chain is None:
            self.troubles.append(f"chain {first} was never sent")
            return 1
        commands = booked(chain)
        members = rows[position : position + len(commands)]
        if [row["id"] for row in members] != [c.id for c in commands]:
            self.troubles.append(f"chain {first} is torn or out of order")
            return 1
        answers = self.oracle.submit([commands])
        for row, answer in zip(members, answers, strict=True):
            written = Answer(
                "applied",
                row["debit_version"],
                int(row["debit_balance"]),
                row["credit_version"],
                int(row["credit_balance"]),
            )
            if answer != written:
                self.troubles.append(f"{row['id']} was booked as {written}, not {answer}")
        return len(commands)


def first_id(chain: Chain) -> UUID:
    """By which the ledger names a chain: its first command that has an id."""
    return booked(chain)[0].id


def booked(chain: Chain) -> list[Movement]:
    """The commands of a chain that are recorded with an id. Changes of an account leave no transfer, and are not replayed."""
    return [c for c in chain if not isinstance(c, OpenAccount | ChangeAccount)]


def named(chain: Chain) -> Iterator[UUID]:
    """The holds and transfers that these commands end or reverse."""
    for command in chain:
        match command:
            case PostHold(hold_id=target) | VoidHold(hold_id=target) | ExpireHold(hold_id=target):
                yield target
            case Reverse(transfer_id=target):
                yield target
            case _:
                pass
