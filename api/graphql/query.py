"""The root of every query. What belongs to another tenant is null or missing, exactly as what does not exist."""

from __future__ import annotations

import strawberry
from strawberry.types import Info

from api.filters import one_state
from api.graphql import nodes
from api.graphql.adjustments import AdjustmentQuery
from api.graphql.batches import WithdrawalBatch, find_batch
from api.graphql.books import BookQueries
from api.graphql.bulk import BulkQuery
from api.graphql.cases import Case, checked_reasons, checked_states, show_case
from api.graphql.chains import ChainQueries
from api.graphql.connections import (
    FIRST_DEFAULT,
    After,
    Connection,
    First,
    Order,
    UnknownNodeKind,
    checked,
    connect,
)
from api.graphql.context import Context
from api.graphql.movements import (
    Deposit,
    Payout,
    Transfer,
    Withdrawal,
    show_deposit,
    show_payout,
    show_transfer,
    show_withdrawal,
)
from api.graphql.outgoing import OutgoingQuery
from api.graphql.parties import (
    Asset,
    Customer,
    Node,
    Wallet,
    show_asset,
    show_customer,
    show_wallet,
)
from api.graphql.reconciliation import ReconciliationQuery
from api.graphql.records import RecordQueries
from api.paging import parse_id_cursor
from custody.assets import service as assets
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.deposits.transitions import DEPOSITS
from custody.kernel.ids import (
    CaseId,
    PayoutId,
    TransferId,
    WalletId,
    WithdrawalId,
    parse_id,
)
from custody.payouts import service as payouts
from custody.payouts.transitions import PAYOUTS
from custody.transfers import service as transfers
from custody.wallets import service as wallets
from custody.withdrawals import service as withdrawals
from custody.withdrawals.transitions import WITHDRAWALS

Ctx = Info[Context, None]


@strawberry.type
class Query(
    AdjustmentQuery, BookQueries, BulkQuery, ChainQueries, OutgoingQuery, ReconciliationQuery, RecordQueries
):
    """Everything that a custody app reads."""

    @strawberry.field
    async def node(self, info: Ctx, id: strawberry.ID) -> Node | None:  # noqa: A002 - Relay names the argument so
        """Any object by its id."""
        prefix = str(id).partition("_")[0]
        found = nodes.BY_PREFIX.get(prefix)
        if found is None:
            raise UnknownNodeKind(id=str(id)[:40])
        return await found(info, parse_id(prefix, str(id)))

    @strawberry.field
    async def customer(self, info: Ctx, id: strawberry.ID) -> Customer | None:  # noqa: A002 - as above
        """One customer."""
        return await nodes.find_customer(info, parse_id("cus", str(id)))

    @strawberry.field
    async def wallet(self, info: Ctx, id: strawberry.ID) -> Wallet | None:  # noqa: A002 - as above
        """One wallet."""
        return await nodes.find_wallet(info, parse_id("wal", str(id)))

    @strawberry.field
    async def withdrawal(self, info: Ctx, id: strawberry.ID) -> Withdrawal | None:  # noqa: A002 - as above
        """One withdrawal."""
        return await nodes.find_withdrawal(info, parse_id("wdr", str(id)))

    @strawberry.field
    async def withdrawal_batch(self, info: Ctx, id: strawberry.ID) -> WithdrawalBatch | None:  # noqa: A002 - as above
        """One batch of withdrawals."""
        return await find_batch(info, parse_id("bat", str(id)))

    @strawberry.field
    async def payout(self, info: Ctx, id: strawberry.ID) -> Payout | None:  # noqa: A002 - as above
        """One payout."""
        return await nodes.find_payout(info, parse_id("pay", str(id)))

    @strawberry.field
    async def assets(self, info: Ctx) -> list[Asset]:
        """All listed assets."""
        async with info.context.turn() as session:
            return [show_asset(asset) for asset in await assets.list_assets(session)]

    @strawberry.field
    async def customers(
        self,
        info: Ctx,
        external_ref: str | None = None,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[Customer]:
        """Customers, oldest first: all, or the one with your own reference."""
        start = parse_id_cursor("customers", after)
        async with info.context.turn() as session:
            found = await wallets.list_customers(
                session, start, checked(first) + 1, external_ref=external_ref
            )
        return connect("customers", found, first, after, key=lambda row: row.id, show=show_customer)

    @strawberry.field
    async def wallets(
        self, info: Ctx, first: First = FIRST_DEFAULT, after: After = None
    ) -> Connection[Wallet]:
        """Wallets of all customers, oldest first."""
        start = parse_id_cursor("wallets", after)
        async with info.context.turn() as session:
            found = await wallets.list_wallets(session, start, checked(first) + 1)
        return connect("wallets", found, first, after, key=lambda row: row.id, show=show_wallet)

    @strawberry.field
    async def deposits(
        self,
        info: Ctx,
        wallet_id: strawberry.ID | None = None,
        state: str | None = None,
        order: Order = Order.OLDEST_FIRST,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[Deposit]:
        """Deposits of one wallet or of all, in one state or in any, by when they were observed. What an unlisted asset brought
        has only a case."""
        of, states = order.of("deposits"), one_state(state, DEPOSITS)
        start = parse_id_cursor(of, after)
        wallet = _wallet_filter(wallet_id)
        listed = await info.context.asset_register()
        async with info.context.turn() as session:
            found = await deposits.list_deposits(
                session,
                wallet_id=wallet,
                states=states,
                of_assets=listed,
                after=start,
                limit=checked(first) + 1,
                newest_first=order is Order.NEWEST_FIRST,
            )
        return connect(
            of,
            found,
            first,
            after,
            key=lambda row: row.id,
            show=lambda row: show_deposit(listed[row.transfer.asset], row),
        )

    @strawberry.field
    async def cases(
        self,
        info: Ctx,
        states: list[str] | None = None,
        reasons: list[str] | None = None,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[Case]:
        """Deposits that could not be credited, of some states and reasons or of any, in the order their cases were opened."""
        start = parse_id_cursor("cases", after)
        async with info.context.turn() as session:
            found = await cases.list_cases(
                session,
                states=checked_states(states),
                reasons=checked_reasons(reasons),
                after=None if start is None else CaseId(start),
                limit=checked(first) + 1,
            )
        listed = await info.context.asset_register()
        return connect(
            "cases",
            found,
            first,
            after,
            key=lambda row: row.id,
            show=lambda row: show_case(listed.get(row.asset), row),
        )

    @strawberry.field
    async def transfers(
        self,
        info: Ctx,
        wallet_id: strawberry.ID | None = None,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[Transfer]:
        """Transfers between wallets, of one or of all, newest first."""
        before = parse_id_cursor("transfers", after)
        wallet = _wallet_filter(wallet_id)
        async with info.context.turn() as session:
            found = await transfers.list_transfers(
                session,
                wallet_id=wallet,
                before=None if before is None else TransferId(before),
                limit=checked(first) + 1,
                with_fees=info.context.asks_fees,
            )
        listed = await info.context.listed_all({row.amount.asset for row in found})
        return connect(
            "transfers",
            found,
            first,
            after,
            key=lambda row: row.id,
            show=lambda row: show_transfer(listed[row.amount.asset], row),
        )

    @strawberry.field
    async def withdrawals(
        self,
        info: Ctx,
        wallet_id: strawberry.ID | None = None,
        state: str | None = None,
        order: Order = Order.OLDEST_FIRST,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[Withdrawal]:
        """Withdrawals of one wallet or of all, in one state or in any, by when they were asked for. What waits for approvers is
        in state `awaiting_approval`."""
        of, states = order.of("withdrawals"), one_state(state, WITHDRAWALS)
        start = parse_id_cursor(of, after)
        wallet = _wallet_filter(wallet_id)
        async with info.context.turn() as session:
            found = await withdrawals.list_withdrawals(
                session,
                None if start is None else WithdrawalId(start),
                checked(first) + 1,
                wallet_id=wallet,
                states=states,
                newest_first=order is Order.NEWEST_FIRST,
            )
        listed = await info.context.asset_register()
        return connect(
            of,
            found,
            first,
            after,
            key=lambda row: row.id,
            show=lambda row: show_withdrawal(listed[row.asset], row),
        )

    @strawberry.field
    async def payouts(
        self,
        info: Ctx,
        wallet_id: strawberry.ID | None = None,
        state: str | None = None,
        order: Order = Order.NEWEST_FIRST,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[Payout]:
        """Payouts of one wallet or of all, in one state or in any, by when they were asked for."""
        of, states = order.of("payouts"), one_state(state, PAYOUTS)
        start = parse_id_cursor(of, after)
        wallet = _wallet_filter(wallet_id)
        async with info.context.turn() as session:
            found = await payouts.list_payouts(
                session,
                wallet_id=wallet,
                states=states,
                after=None if start is None else PayoutId(start),
                limit=checked(first) + 1,
                newest_first=order is Order.NEWEST_FIRST,
            )
        listed = await info.context.asset_register()
        return connect(
            of,
            found,
            first,
            after,
            key=lambda row: row.id,
            show=lambda row: show_payout(listed[row.amount.asset], row),
        )


def _wallet_filter(text: strawberry.ID | None) -> WalletId | None:
    return None if text is None else WalletId(parse_id("wal", str(text)))
