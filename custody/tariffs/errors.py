"""Refusals about tariffs and quotes."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, NotFound, Refused


class MalformedTariff(InvalidInput):
    """Terms that do not fit their kind: a negative amount, more than all of it, a maximum below the minimum, no ceiling."""

    code = "malformed_tariff"
    public = "These terms do not fit their kind of tariff."


class NetworkCostInOtherAsset(Refused):
    """The chain's cost is paid in its own currency; passing it through in another asset needs a rate, and no rate is kept."""

    code = "network_cost_in_other_asset"
    public = "What the network takes is not in this asset: charge a flat fee or basis points."


class UnknownQuote(NotFound):
    """No quote of this tenant has this id."""

    code = "unknown_quote"
    public = "There is no such quote."


class QuoteExpired(Refused):
    """A quote binds for its time only."""

    code = "quote_expired"
    public = "The quote has expired. Ask for another one."


class QuoteDiffers(Refused):
    """The quote was for another wallet, asset or amount."""

    code = "quote_differs"
    public = "The quote is for another wallet, asset or amount."


class QuoteUsed(Conflict):
    """A quote is for one withdrawal."""

    code = "quote_used"
    public = "Another withdrawal has used this quote."


class QuoteExistsDifferent(Conflict):
    """The same id was used for a quote of something else."""

    code = "quote_exists_different"
    public = "A quote of this id is for something else."
