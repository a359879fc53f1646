"""What every rail adapter offers, and the few words that adapters and the worker share.

Adapters hold no state and never touch the ledger: they speak a bank's protocol and return facts in the domain's words. The same
reference goes out on every sending of one payout, and every payout can be asked about by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from custody.banking.model import BankStatement
from custody.kernel.errors import InvalidInput, Unauthenticated, Unavailable
from custody.payouts.model import PaymentInstruction, RailObservation, SubmissionReport
from custody.receipts.model import BankReceipt

Observation = RailObservation | BankReceipt
"""A fact that a rail reports: about a payment of ours, or money that arrived."""


class BadCallbackSignature(Unauthenticated):
    """The callback is not signed by the rail, or its signature is too old to trust."""

    code = "bad_callback_signature"
    public = "The callback's signature does not verify."


class MalformedCallback(InvalidInput):
    """The callback is signed by the rail and is not of the form that the rail documents."""

    code = "malformed_callback"
    public = "The callback is not understood."


class UnknownRail(InvalidInput):
    """No rail of this name is configured."""

    code = "unknown_rail"
    public = "No such rail."


class RailUnavailable(Unavailable):
    """The rail gave no statement; it can be asked again."""

    code = "rail_unavailable"
    public = "The rail does not answer."


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The rail knows the reference; these are the facts, oldest first."""

    observations: tuple[RailObservation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """The rail says that it has never taken an order under the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """No answer that proves anything: ask again later."""

    cause: str


StatusAnswer = Found | Absent | Unanswered
"""What a question about our own reference brings."""


class Rail(Protocol):
    """One bank or provider. Every call but `parse_callback` talks to the network: never inside a database transaction."""

    @property
    def id(self) -> str:
        """The rail's name in the settings."""
        ...

    async def submit(self, instruction: PaymentInstruction) -> SubmissionReport:
        """Ask for a payment. Never raises for network trouble: that is Lost. Idempotent at the rail by our reference."""
        ...

    async def status(self, reference: str) -> StatusAnswer:
        """Ask about a payment by our own reference. Never raises for network trouble: that is Unanswered."""
        ...

    def parse_callback(self, headers: Mapping[str, str], raw_body: bytes) -> list[Observation]:
        """The facts in a callback. Checks the signature over the raw bytes before it reads them.

        Raises BadCallbackSignature, MalformedCallback.
        """
        ...

    async def statement(self, iban: str, first: date, last: date) -> BankStatement:
        """What the bank booked on our account on these days, both included. Raises RailUnavailable."""
        ...

    async def aclose(self) -> None:
        """Let the connections go."""
        ...
