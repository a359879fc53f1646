"""What reconciliation asks of parts that lie above the domain. The composition root hands them in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Protocol

from custody.banking.model import BankStatement
from custody.db.session import ReadSession
from custody.kernel.assetid import ChainId


class BankStatements(Protocol):
    """Statements by rail. `rails.registry.RailRegistry` is one."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The rails that can be asked."""
        ...

    async def statement(self, rail_id: str, iban: str, first: date, last: date) -> BankStatement:
        """What the bank booked on these days, both included. Network. Raises a CustodyError that is `Unavailable`."""
        ...


class IngestedHeights(Protocol):
    """How far the books follow each chain."""

    async def final_heights(self, session: ReadSession) -> Mapping[ChainId, int]:
        """Per chain, the height up to which everything is booked. Read in the caller's transaction, so that heights and balances
        belong to one snapshot. A chain of which nothing is ingested is missing."""
        ...
