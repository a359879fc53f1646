"""What exchanges of one asset for another refuse."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, NotFound, Refused


class UnknownExchange(NotFound):
    """No such exchange of this tenant."""

    code = "unknown_exchange"
    public = "No such exchange."


class ExchangeExistsDifferent(Conflict):
    """The id was used for an exchange of other content."""

    code = "exchange_exists_different"
    public = "The id was already used for another exchange. Use a new id."


class ExchangeReversed(Conflict):
    """Every leg has its mirror already."""

    code = "already_reversed"
    public = "The exchange was already reversed."


class SameAsset(InvalidInput):
    """What is sold and what is bought are one asset."""

    code = "same_asset"
    public = "An asset is not exchanged for itself. Use a transfer."


class BadRate(InvalidInput):
    """A rate is a fraction of two whole numbers, each from 1 to 2^256-1."""

    code = "bad_rate"
    public = "Numerator and denominator of a rate are whole numbers greater than zero."


class BadRateSource(InvalidInput):
    """The source of a rate is empty, too long or not printable."""

    code = "bad_rate_source"
    public = "The source of a rate is 1 to 200 printable characters, not spaces alone."


class BadQuoteTime(InvalidInput):
    """The time of a quote is not a moment in the past: unreadable, without an offset, or still to come."""

    code = "bad_quote_time"
    public = "The time of a quote is RFC 3339 with an offset, and not in the future."


class ExchangeTooSmall(Refused):
    """At this rate and rounding the amount buys less than one atomic unit."""

    code = "exchange_too_small"
    public = "The amount buys nothing at this rate. Sell more."
