"""A fee as responses carry it."""

from __future__ import annotations

from pydantic import Field

from api.rest.shapes import AmountOut, Out, show_amount
from custody.assets.model import Asset
from custody.kernel.ids import show_id
from custody.tariffs.model import ROUNDING, HeldFee

KIND = (
    "`free`; `flat`; `bps`: basis points of the amount; `network`: what the chain takes, with the tariff's mark-up, up to what "
    "is held."
)


class FeeOut(Out):
    """What a withdrawal costs its wallet, on top of its amount and never part of it."""

    kind: str = Field(description=KIND, examples=["flat"])
    tariff_version: int | None = Field(description="Null where no tariff was in force.")
    quote_id: str | None
    quoted: AmountOut | None = Field(description="What was quoted; null where no quote was named.")
    held: AmountOut = Field(description="Held with the amount: the most that is charged.")
    charged: AmountOut | None = Field(
        description="What was charged; null until it has ended, zero where it ended unpaid. The rest of the hold is released."
    )
    rounding: str = Field(
        description="`ceil`: a part of an atomic unit is charged as a whole one.", examples=[ROUNDING]
    )


def show_fee(asset: Asset, fee: HeldFee) -> FeeOut:
    """A withdrawal's fee."""
    held = show_amount(asset, fee.held)
    return FeeOut(
        kind=fee.kind,
        tariff_version=fee.tariff_version,
        quote_id=None if fee.quote_id is None else show_id("qte", fee.quote_id),
        quoted=None if fee.quote_id is None else held,
        held=held,
        charged=None if fee.charged is None else show_amount(asset, fee.charged),
        rounding=ROUNDING,
    )
