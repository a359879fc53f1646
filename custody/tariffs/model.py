"""What customers pay for a withdrawal: the tariff, the quote, and the fee as a withdrawal carries it. Frozen values, pure sums.

A fee is charged in the asset that is withdrawn and held beside the amount, as a ledger leg of its own. What is held is the most
that can be charged; what is charged is known when the withdrawal ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from custody.kernel.assetid import AssetId
from custody.kernel.ids import QuoteId, WalletId
from custody.kernel.money import Amount

FeeKind = Literal["free", "flat", "bps", "network"]
"""`free`; `flat`: always the same; `bps`: by the amount; `network`: what the chain took, up to a ceiling."""
KINDS: tuple[FeeKind, ...] = get_args(FeeKind)
"""All of them."""
BPS = 10_000
"""Basis points in a whole."""
ROUNDING = "ceil"
"""A part of an atomic unit is charged as a whole one: the only rounding of fees, told with each of them."""


def share_of(atomic: int, bps: int) -> int:
    """So many basis points of an amount, in whole atomic units. Rounding: up."""
    return -(-atomic * bps // BPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class TariffTerms:
    """What withdrawals of an asset cost. Amounts are atomic units of that asset."""

    kind: FeeKind
    """How the fee is found."""
    flat: int = 0
    """`flat`: the fee."""
    bps: int = 0
    """`bps`: basis points of the amount. `network`: mark-up on what the chain took, in basis points of it."""
    minimum: int = 0
    """`bps`: the least that is charged."""
    maximum: int | None = None
    """`bps`: the most that is charged; None for no such limit. `network`: the ceiling, which must be there."""
    quote_valid_s: int
    """How many seconds a quote binds us."""

    def fee_held(self, amount: int) -> int:
        """The most that a withdrawal of this amount can cost: what is held."""
        match self.kind:
            case "free":
                return 0
            case "flat":
                return self.flat
            case "bps":
                fee = max(self.minimum, share_of(amount, self.bps))
                return fee if self.maximum is None else min(self.maximum, fee)
            case "network":
                return self.maximum or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """Terms in force for an asset, from the moment they were set until a newer version is."""

    asset: AssetId
    """What is withdrawn, and what the fee is charged in."""
    version: int
    """From 1; the newest is in force."""
    terms: TariffTerms
    """What it costs."""
    set_by: str
    """Subject who set it."""
    note: str
    """Why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestQuote:
    """A withdrawal that somebody considers."""

    id: QuoteId
    """Chosen by the edge; the same id with the same content is the same quote."""
    wallet_id: WalletId
    """Wallet that would pay."""
    amount: Amount
    """What the receiver would get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldFee:
    """What a withdrawal may cost its wallet, and, once it has ended, what it did cost. Atomic units of the withdrawn asset."""

    kind: FeeKind
    """How it is found."""
    tariff_version: int | None
    """Version of the asset's tariff; None where none was in force, or the wallet is the tenant's own."""
    quote_id: UUID | None
    """The quote that it was agreed by; None where the tariff in force was applied."""
    held: int
    """Held with the amount: the most that is charged."""
    markup_bps: int = 0
    """`network`: basis points on top of what the chain took."""
    charged: int | None = None
    """What was charged in the end; None while the withdrawal is open, 0 where it ended unpaid."""

    def charge_for(self, network_cost: int) -> int:
        """What is charged when the withdrawal settles and the chain took `network_cost` for it. The rest is released."""
        if self.kind != "network":
            return self.held
        return min(self.held, network_cost + share_of(network_cost, self.markup_bps))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What a withdrawal will cost if it is asked for in time."""

    id: QuoteId
    """Shown as `qte_…`."""
    wallet_id: WalletId
    """Wallet that would pay."""
    amount: Amount
    """What the receiver would get."""
    fee: HeldFee
    """What it costs."""
    expires_at: datetime
    """A withdrawal that names it must come before."""
    created_at: datetime
    """When it was made."""
