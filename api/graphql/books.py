"""A wallet's books: its statement with running balances, and what it held at a moment."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.types import Info

from api.graphql.connections import FIRST_DEFAULT, After, Connection, First, Order, checked, connect
from api.graphql.context import Context
from api.graphql.parties import Money, show_money
from api.paging import parse_number_cursor
from custody.assets.model import Asset
from custody.kernel.assetid import parse_asset_id
from custody.kernel.errors import InvalidInput
from custody.kernel.ids import WalletId, parse_id
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Entry, Side

Ctx = Info[Context, None]


class MomentWithoutZone(InvalidInput):
    """A moment is named without its time zone, so that it may mean several."""

    code = "moment_without_zone"
    public = "The moment has no time zone: end it with Z or an offset."


@strawberry.type
class StatementLine:
    """One entry of a wallet's account. `amount` has the wallet's view: negative where it paid. `reserved` is what was held after
    it, `reservedChange` by how much this entry changed that; `balance` is what was posted after it. `effectiveAt` is its value
    date. `reference` names what it belongs to: the hexadecimal part of that object's id."""

    version: str
    kind: str
    code: str
    reference: str
    amount: Money
    balance: Money
    reserved: Money
    reserved_change: Money
    booked_at: datetime
    effective_at: datetime


@strawberry.type
class PastBalance:
    """What the books said of a wallet and an asset at a moment: after the entry `version`, 0 where there was none yet."""

    at: datetime
    version: str
    posted: Money
    reserved: Money
    available: Money


@strawberry.type
class BookQueries:
    """What is asked about a wallet's books."""

    @strawberry.field
    async def statement(
        self,
        info: Ctx,
        wallet_id: strawberry.ID,
        asset: str,
        order: Order = Order.OLDEST_FIRST,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[StatementLine] | None:
        """A wallet's entries of one asset with running balances; null for a wallet that is not yours. Error `history_archived`
        where the page would begin with months that are archived; newest first, it ends where they begin."""
        wallet, listed = await _find(info, wallet_id, asset)
        of = order.of("statement")
        place, limit = parse_number_cursor(of, after), checked(first) + 1
        if wallet is None:
            return None
        account = postings.wallet_account(wallet, listed.id)
        async with info.context.turn() as session:
            if order is Order.NEWEST_FIRST:
                found = await ledger.statement_back(session, account, place, limit)
            else:
                found = await ledger.statement(session, account, place or 0, limit)
        info.context.budget.spend(len(found))
        return connect(
            of,
            found,
            first,
            after,
            key=lambda row: row.version,
            show=lambda row: show_line(listed, row),
        )

    @strawberry.field
    async def balance_at(
        self, info: Ctx, wallet_id: strawberry.ID, asset: str, at: datetime
    ) -> PastBalance | None:
        """What a wallet held of one asset at a moment, by what was booked then; null for a wallet that is not yours. Error
        `history_archived` for a moment in an archived month."""
        if at.tzinfo is None:
            raise MomentWithoutZone
        wallet, listed = await _find(info, wallet_id, asset)
        if wallet is None:
            return None
        async with info.context.turn() as session:
            found = await ledger.balance_at(session, postings.wallet_account(wallet, listed.id), at)
        return PastBalance(
            at=at,
            version=str(found.version),
            posted=show_money(listed, found.posted),
            reserved=show_money(listed, found.pending_out),
            available=show_money(listed, found.posted - found.pending_out),
        )


def show_line(asset: Asset, entry: Entry) -> StatementLine:
    """One entry, as the wallet's owner sees it: a wallet is our debt, so that credits are theirs."""
    signed = entry.posted if entry.side is Side.CREDIT else -entry.posted
    return StatementLine(
        version=str(entry.version),
        kind=entry.kind,
        code=entry.code,
        reference=str(entry.reference),
        amount=show_money(asset, signed),
        balance=show_money(asset, entry.balance),
        reserved=show_money(asset, entry.held),
        reserved_change=show_money(asset, entry.pending),
        booked_at=entry.booked_at,
        effective_at=entry.effective_at,
    )


async def _find(info: Ctx, wallet_id: strawberry.ID, asset: str) -> tuple[WalletId | None, Asset]:
    """The tenant's wallet, if it is one, and the listed asset. Raises UnknownAsset."""
    wanted = WalletId(parse_id("wal", str(wallet_id)))
    listed = await info.context.listed(parse_asset_id(asset))
    found = await info.context.wallets.load(wanted)
    return (None if found is None else wanted), listed
