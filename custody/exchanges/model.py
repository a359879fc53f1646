"""An exchange of one asset for another: asked for, and as it was booked. Rates are exact; nothing is rounded in silence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from custody.exchanges.errors import BadQuoteTime, BadRate, BadRateSource, ExchangeTooSmall, SameAsset
from custody.kernel.assetid import AssetId
from custody.kernel.ids import ExchangeId, WalletId
from custody.kernel.money import MAX_ATOMIC, Amount, AmountNotPositive, AmountTooLarge

SOURCE_MAX = 200
"""Characters of a rate's source."""


class Rounding(StrEnum):
    """What becomes of the part of an atomic unit that an exact rate leaves over. Whoever asks for an exchange says which."""

    FLOOR = "floor"
    """It stays with us: the buyer gets the whole units below."""
    CEIL = "ceil"
    """It is made up by us: the buyer gets the whole units above."""


BOUGHT_MAX = 2**192 - 1
"""Atomic units that one exchange may buy. What accounts have seen only grows, also by reversals, up to 2^256-1: a mistyped rate
must not use that up, or nothing could ever be booked there again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many atomic units of the bought asset one atomic unit of the sold asset is worth. Raises BadRate, BadRateSource,
    BadQuoteTime when made of anything else."""

    numerator: int
    """Atomic units of the bought asset; 1 to 2^256-1."""
    denominator: int
    """For so many atomic units of the sold asset; 1 to 2^256-1. The fraction is kept as quoted, not shortened."""
    source: str
    """Who quoted it, in words that an examiner can follow up."""
    quoted_at: datetime
    """When it was quoted, by the source's clock."""

    def __post_init__(self) -> None:
        for part in (self.numerator, self.denominator):
            if not 0 < part <= MAX_ATOMIC:
                raise BadRate(numerator=str(self.numerator), denominator=str(self.denominator))
        if not (self.source.strip() and self.source.isprintable() and len(self.source) <= SOURCE_MAX):
            raise BadRateSource
        if self.quoted_at.tzinfo is None:
            raise BadQuoteTime

    def convert(self, sold: Amount, bought: AssetId, *, rounding: Rounding) -> Amount:
        """What the amount buys. Raises SameAsset, ExchangeTooSmall, AmountTooLarge."""
        if sold.asset == bought:
            raise SameAsset(asset=bought.text)
        whole, rest = divmod(sold.atomic * self.numerator, self.denominator)
        atomic = whole + 1 if rest and rounding is Rounding.CEIL else whole
        if atomic == 0:
            raise ExchangeTooSmall(amount=str(sold.atomic))
        if atomic > BOUGHT_MAX:
            raise AmountTooLarge(amount=str(atomic))
        return Amount(bought, atomic)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestExchange:
    """What a caller wants exchanged. Idempotent by `id`. Raises AmountNotPositive."""

    id: ExchangeId
    """Chosen by the edge."""
    source_wallet_id: WalletId
    """Who sells, and pays the fee."""
    destination_wallet_id: WalletId
    """Who gets what is bought; may be the same wallet."""
    sold: Amount
    """What is given; more than zero."""
    bought_asset: AssetId
    """What is wanted for it."""
    rate: Rate
    """At which rate."""
    rounding: Rounding
    """What becomes of a part of an atomic unit."""
    fee: Amount | None = None
    """What the seller is charged on top, in the sold asset; more than zero. None for no fee."""

    def __post_init__(self) -> None:
        for each in (self.sold, self.fee):
            if each is not None and each.atomic <= 0:
                raise AmountNotPositive(amount=str(each.atomic))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An exchange that was booked."""

    id: ExchangeId
    """Shown as `exc_…`."""
    source_wallet_id: WalletId
    """Who sold."""
    destination_wallet_id: WalletId
    """Who got what was bought."""
    sold: Amount
    """What was given, without the fee."""
    bought: Amount
    """What was got for it."""
    fee: Amount | None
    """What the seller was charged on top, in the sold asset."""
    rate: Rate
    """At which rate."""
    rounding: Rounding
    """How `bought` was rounded."""
    requested_by: str
    """The principal that stated the rate."""
    booked_at: datetime
    """When its legs were booked, by the database's clock."""
    reversed_by: str | None = None
    """The principal that had it reversed."""
    reversed_at: datetime | None = None
    """When its legs were mirrored."""
