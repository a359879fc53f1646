"""The root of every query. What belongs to another tenant is null or missing, exactly as what does not exist."""

from __future__ import annotations

import strawberry
from strawberry.types import Info

from api.graphql import nodes
from api.graphql.adjustments import AdjustmentQuery
from api.graphql.batches import WithdrawalBatch, find_batch
from api.graphql.books import BookQueries
from api.graphql.bulk import BulkQuery
from api.graphql.cases import Case, UnknownFilter, checked_reasons, checked_states, show_case
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
from api.graphql.records import (
    AuditEvent,
    Event,
    Liabilities,
    show_audit_event,
    show_event,
    show_liabilities,
)
from api.paging import parse_id_cursor, parse_number_cursor
from custody.assets import service as assets
from custody.audit import service as audit
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.events import feed
from custody.kernel.ids import (
    CaseId,
    TransferId,
    WalletId,
    WithdrawalId,
    parse_id,
)
from custody.payouts import service as payouts
from custody.seals import publication
from custody.transfers import service as transfers
from custody.wallets import service as wallets
from custody.withdrawals import service as withdrawals
from custody.withdrawals.transitions import WITHDRAWALS

Ctx = Info[Context, None]


@strawberry.type
class Query(AdjustmentQuery, BookQueries, BulkQuery, ChainQueries, OutgoingQuery, ReconciliationQuery):
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
        self, info: Ctx, first: First = FIRST_DEFAULT, after: After = None
    ) -> Connection[Customer]:
        """Customers, oldest first."""
        start = parse_id_cursor("customers", after)
        async with info.context.turn() as session:
            found = await wallets.list_customers(session, start, checked(first) + 1)
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
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[Deposit]:
        """Deposits of one wallet or of all, in the order they were observed. What an unlisted asset brought has only a case."""
        start = parse_id_cursor("deposits", after)
        wallet = _wallet_filter(wallet_id)
        listed = await info.context.asset_register()
        async with info.context.turn() as session:
            found = await deposits.list_deposits(
                session,
                wallet_ids=None if wallet is None else [wallet],
                of_assets=listed,
                after=start,
                limit=checked(first) + 1,
            )
        return connect(
            "deposits",
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
        if state is not None and state not in WITHDRAWALS.states:
            raise UnknownFilter(state=state[:40])
        newest_first = order is Order.NEWEST_FIRST
        of = "withdrawals-newest" if newest_first else "withdrawals"
        start = parse_id_cursor(of, after)
        wallet = _wallet_filter(wallet_id)
        async with info.context.turn() as session:
            found = await withdrawals.list_withdrawals(
                session,
                None if start is None else WithdrawalId(start),
                checked(first) + 1,
                wallet_id=wallet,
                states=() if state is None else (state,),
                newest_first=newest_first,
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
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[Payout]:
        """Payouts of one wallet or of all, newest first."""
        before = parse_number_cursor("payouts", after)
        wallet = _wallet_filter(wallet_id)
        async with info.context.turn() as session:
            found = await payouts.list_payouts(
                session, wallet_id=wallet, before=before, limit=checked(first) + 1
            )
        listed = await info.context.asset_register()
        return connect(
            "payouts",
            found,
            first,
            after,
            key=lambda row: row.sequence,
            show=lambda row: show_payout(listed[row.amount.asset], row),
        )

    @strawberry.field
    async def audit_events(
        self, info: Ctx, first: First = FIRST_DEFAULT, after: After = None
    ) -> Connection[AuditEvent]:
        """Audit events, oldest first, so that their chain of hashes can be followed."""
        start = parse_number_cursor("audit", after) or 0
        async with info.context.turn() as session:
            found = await audit.page(session, start, checked(first) + 1)
        return connect("audit", found, first, after, key=lambda row: row.sequence, show=show_audit_event)

    @strawberry.field
    async def events(
        self, info: Ctx, types: list[str] | None = None, first: First = FIRST_DEFAULT, after: After = None
    ) -> Connection[Event]:
        """The feed, oldest first, of some types or of all. Whoever has read up to a sequence has missed nothing below it."""
        start = parse_number_cursor("events", after) or 0
        async with info.context.turn() as session:
            found = await feed.page(session, after=start, types=types or (), limit=checked(first) + 1)
        return connect("events", found, first, after, key=lambda row: row.position, show=show_event)

    @strawberry.field
    async def liabilities(self, info: Ctx) -> list[Liabilities] | None:
        """What is owed to all wallets, per asset, as it was published last. Error `not_sealed` while nothing is."""
        async with info.context.turn() as session:
            found = await publication.list_published(session)
        info.context.budget.spend(len(found))
        return [show_liabilities(each) for each in found]


def _wallet_filter(text: strawberry.ID | None) -> WalletId | None:
    return None if text is None else WalletId(parse_id("wal", str(text)))
