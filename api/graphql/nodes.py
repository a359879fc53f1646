"""One object of the graph by its id, whatever it is: null where it is another tenant's, as where it does not exist."""

from __future__ import annotations

from uuid import UUID

from strawberry.types import Info

from api.graphql import parties
from api.graphql.adjustments import find_adjustment
from api.graphql.cases import Case, show_case
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
from api.graphql.parties import (
    Customer,
    Node,
    Wallet,
    show_address,
    show_customer,
)
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.kernel.errors import NotFound
from custody.kernel.ids import (
    AddressId,
    CaseId,
    CustomerId,
    DepositId,
    PayoutId,
    TransferId,
    WalletId,
    WithdrawalId,
)
from custody.payouts import service as payouts
from custody.transfers import service as transfers
from custody.wallets import service as wallets
from custody.withdrawals import service as withdrawals

Ctx = Info[Context, None]


async def find_customer(info: Ctx, value: UUID) -> Customer | None:
    """A customer by id."""
    found = await info.context.customers.load(CustomerId(value))
    return None if found is None else show_customer(found)


async def find_wallet(info: Ctx, value: UUID) -> Wallet | None:
    """A wallet by id."""
    return await parties.find_wallet(info, WalletId(value))


async def find_address(info: Ctx, value: UUID) -> Node | None:
    """A deposit address by id."""
    async with info.context.turn() as session:
        found = await wallets.find_address(session, AddressId(value))
    return None if found is None else show_address(found)


async def find_deposit(info: Ctx, value: UUID) -> Deposit | None:
    """A deposit by id; None while its asset is not listed."""
    try:
        async with info.context.turn() as session:
            found = await deposits.get_deposit(session, DepositId(value))
    except NotFound:
        return None
    asset = (await info.context.asset_register()).get(found.transfer.asset)
    return None if asset is None else show_deposit(asset, found)


async def find_case(info: Ctx, value: UUID) -> Case | None:
    """A deposit's case by id."""
    try:
        async with info.context.turn() as session:
            found = await cases.get_case(session, CaseId(value))
    except NotFound:
        return None
    return show_case((await info.context.asset_register()).get(found.asset), found)


async def find_transfer(info: Ctx, value: UUID) -> Transfer | None:
    """A transfer by id."""
    try:
        async with info.context.turn() as session:
            found = await transfers.get(session, TransferId(value))
    except NotFound:
        return None
    return show_transfer(await info.context.asset(found.amount.asset), found)


async def find_withdrawal(info: Ctx, value: UUID) -> Withdrawal | None:
    """A withdrawal by id."""
    try:
        async with info.context.turn() as session:
            found = await withdrawals.get(session, WithdrawalId(value))
    except NotFound:
        return None
    return show_withdrawal(await info.context.asset(found.asset), found)


async def find_payout(info: Ctx, value: UUID) -> Payout | None:
    """A payout by id."""
    try:
        async with info.context.turn() as session:
            found = await payouts.get(session, PayoutId(value))
    except NotFound:
        return None
    return show_payout(await info.context.asset(found.amount.asset), found)


BY_PREFIX = {
    "adj": find_adjustment,
    "cus": find_customer,
    "wal": find_wallet,
    "adr": find_address,
    "dep": find_deposit,
    "cas": find_case,
    "trf": find_transfer,
    "wdr": find_withdrawal,
    "pay": find_payout,
}
"""Who finds an object, by the prefix of its id."""
