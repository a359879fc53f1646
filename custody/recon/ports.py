"""What reconciliation asks of a part that lies above the domain. The composition root hands it in."""

from __future__ import annotations

from datetime import date
from typing import Protocol

from custody.banking.model import BankStatement


class BankStatements(Protocol):
    """Statements by rail. `rails.registry.RailRegistry` is one."""

    @property
    def ids(self) -> tuple[str, ...]:
        """The rails that can be asked."""
        ...

    async def statement(self, rail_id: str, iban: str, first: date, last: date) -> BankStatement:
        """What the bank booked on these days, both included. Network. Raises a CustodyError that is `Unavailable`."""
        ...
