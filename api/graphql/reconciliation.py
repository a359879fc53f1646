"""How vaults and assets stand against the chain, and how one of them has stood: the same as REST's `/v1/reconciliation`."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Annotated

import strawberry
from strawberry.types import Info

from api.graphql.connections import First, checked
from api.graphql.context import Context
from api.graphql.holdings import HoldingBreak, HoldingComparison, show_comparison, show_holding_break
from custody.holdings.series_model import POINTS_MAX, HoldingSeries
from custody.kernel.assetid import parse_asset_id
from custody.kernel.errors import InvalidInput
from custody.kernel.ids import VaultId, parse_id, show_id
from custody.recon import continuous
from custody.recon.continuous import ContinuousState
from custody.wallets.errors import UnknownVault

Points = Annotated[int, strawberry.argument(description="How many points at most: 2 to 1000.")]
Height = Annotated[str | None, strawberry.argument(description="Block or ledger, as a string of digits.")]


class BadRange(InvalidInput):
    """`points` or a height is none that a series can have."""

    code = "bad_range"
    public = "`points` must be between 2 and 1000, and heights must be whole numbers."


@strawberry.enum
class Stands(Enum):
    """Which vaults: all; without deposit addresses that are equal; only those with an open break."""

    ALL = "all"
    STANDING = "standing"
    BROKEN = "broken"


@strawberry.type
class VaultReconciliation:
    """One vault and asset at its chain's final height. `found` is the open break; `compared` is null before the first comparison.
    `stopsPayments`: payments of this asset from this vault wait, because more differs than `threshold` lets pass."""

    vault_id: strawberry.ID
    asset: str
    purpose: str
    height: str | None
    compared: HoldingComparison | None
    found: HoldingBreak | None
    threshold: str
    stops_payments: bool


@strawberry.type
class ReconciliationPoint:
    """Both sides from this height on, in atomic units; `books` with what lay there before we read."""

    height: str
    at: datetime
    books: str
    on_chain: str


@strawberry.type
class ReconciliationSeries:
    """One vault and asset over time. `exact`: every change in the range is a point; else they are samples, each of them exact."""

    height_from: str
    height_to: str
    exact: bool
    points: list[ReconciliationPoint]
    breaks: list[HoldingBreak]


@strawberry.type
class ReconciliationQuery:
    """What operators ask about books and chain."""

    @strawberry.field
    async def reconciliation(
        self, info: Info[Context, None], which: Stands = Stands.STANDING, first: First = 100
    ) -> list[VaultReconciliation]:
        """How vaults stand now, as many as are asked for. REST has pages of all."""
        async with info.context.turn() as session:
            found = await continuous.list_states(session, which.value, limit=checked(first))
        info.context.budget.spend(len(found))
        return [_show_state(each) for each in found]

    @strawberry.field
    async def reconciliation_series(
        self,
        info: Info[Context, None],
        vault_id: strawberry.ID,
        asset: str,
        height_from: Height = None,
        height_to: Height = None,
        points: Points = 300,
    ) -> ReconciliationSeries | None:
        """Books against chain of one vault and asset, up to the final height unless told. Error `never_compared` before the
        first comparison."""
        if not 2 <= points <= POINTS_MAX:
            raise BadRange(points=points)
        vault, wanted = VaultId(parse_id("vlt", str(vault_id))), parse_asset_id(asset)
        try:
            async with info.context.turn() as session:
                found = await continuous.read_series(
                    session,
                    vault,
                    wanted,
                    height_from=_height(height_from),
                    height_to=_height(height_to),
                    points=points,
                )
        except UnknownVault:
            return None
        info.context.budget.spend(len(found.points) + len(found.breaks))
        return _show_series(found)


def _height(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRange
    return int(text)


def _show_state(found: ContinuousState) -> VaultReconciliation:
    check = found.check
    return VaultReconciliation(
        vault_id=strawberry.ID(show_id("vlt", check.vault_id)),
        asset=check.asset.text,
        purpose=check.purpose,
        height=None if found.height is None else str(found.height),
        compared=None if check.last is None else show_comparison(check.last),
        found=None if check.found is None else show_holding_break(check.found),
        threshold=str(check.threshold),
        stops_payments=found.stops_payments,
    )


def _show_series(found: HoldingSeries) -> ReconciliationSeries:
    return ReconciliationSeries(
        height_from=str(found.height_from),
        height_to=str(found.height_to),
        exact=found.exact,
        points=[
            ReconciliationPoint(
                height=str(each.compared.height),
                at=each.at,
                books=str(each.compared.books + each.compared.opening),
                on_chain=str(each.compared.chain),
            )
            for each in found.points
        ],
        breaks=[show_holding_break(each) for each in found.breaks],
    )
