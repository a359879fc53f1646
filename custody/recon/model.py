"""What reconciliation found: our books beside the world outside, and where the two differ."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from custody.kernel.assetid import AssetId
from custody.kernel.ids import TenantId


class BreakKind(StrEnum):
    """What is wrong."""

    BALANCE_DIFFERS = "balance_differs"
    """Books and outside were read at the same point and are not equal."""
    NOT_COMPARABLE = "not_comparable"
    """The two could not be read at the same point, however often it was tried: nothing is proved."""
    UNBOOKED_ENTRY = "unbooked_entry"
    """The bank booked a line that our books do not hold."""
    MISSING_ENTRY = "missing_entry"
    """Our books hold a line that the bank's statement does not."""
    TRIAL_BALANCE = "trial_balance"
    """Debits and credits of an asset are not equal: the books themselves are broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """One thing that is held outside: an asset of a vault, or the money of a bank account."""

    owner: str
    """What operators read: chain and account, or rail and IBAN."""
    owner_id: UUID
    """The vault or bank account."""
    asset: AssetId


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainReading:
    """What the chain said about a holding."""

    height: int
    """Where on the chain this was true."""
    amount: int
    """Atomic units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconRow:
    """Books and outside of one holding, side by side."""

    holding: Holding
    books: int
    """Posted balance of our account for it, in atomic units."""
    outside: int | None
    """What chain or bank says, in atomic units; None when they could not be compared."""
    at: str
    """The point of comparison and who told: `height 123, from the ledger's own entries`, `height 123, from the node`, or the
    day of the statement; why not, when they could not be compared."""
    opening: int = 0
    """What a vault held before its first ledger that was read, in atomic units: known, and no booking explains it."""

    waiting: int = 0
    """What final blocks brought and an asset's own finality, or agreement of providers, holds back, in atomic units."""

    @property
    def difference(self) -> int | None:
        """Books, opening and what waits less outside; None when they could not be compared."""
        return None if self.outside is None else self.books + self.opening + self.waiting - self.outside


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconBreak:
    """A difference that somebody has to explain."""

    kind: BreakKind
    owner: str
    owner_id: UUID | None
    """The vault or bank account; None for the books as a whole."""
    asset: AssetId
    books: int
    outside: int | None
    detail: str
    """What identifies it: the bank's id of a line, the reason why two sides could not be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankLine:
    """A line of a bank account, from the statement or from our books, under the bank's own name for it."""

    kind: str
    """payment, return or incoming."""
    external_ref: str
    amount: int
    """Minor units; negative left the account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconReport:
    """One run over one tenant."""

    run_id: UUID
    tenant: TenantId
    started_at: datetime
    finished_at: datetime
    rows: tuple[ReconRow, ...]
    breaks: tuple[ReconBreak, ...]
    trial_balance: dict[AssetId, int]
    """Debits less credits per asset: zero, or the books are broken."""
