"""Wallets: a customer's balances, and the addresses where outsiders send money for them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    AssetText,
    AtomicText,
    Cursor,
    Empty,
    In,
    Limit,
    Out,
    PageOut,
    ShownId,
    parse_chain,
    parse_field_id,
    show,
)
from api.strict_json import StrictRoute
from custody.assets.model import Asset
from custody.db.session import UnitOfWork
from custody.deposits import execution as deposits
from custody.deposits.execution import parse_address_memo
from custody.deposits.model import AddressMemo
from custody.kernel.assetid import ChainId
from custody.kernel.ids import CustomerId, WalletId, new_uuid, parse_id, show_id
from custody.kernel.money import format_units
from custody.ledger import history
from custody.ledger.model import AccountKind, Balance
from custody.receipts import service as receipts
from custody.wallets import service as wallets
from custody.wallets.model import DepositAddress, Wallet

router = APIRouter(prefix="/v1/wallets", tags=["wallets"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("wallets:read"))]
Write = Annotated[Command, Depends(commands("wallets:write"))]

WalletPath = Annotated[str, Path(max_length=40, examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]


class WalletIn(In):
    """A wallet to open."""

    customer_id: ShownId = Field(examples=["cus_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    name: str = Field(min_length=1, max_length=200, examples=["Savings"])


class WalletOut(Out):
    """A wallet."""

    id: str = Field(examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    customer_id: str
    name: str


class BalanceOut(Out):
    """What a wallet holds of one asset, in atomic units."""

    asset: AssetText
    decimals: int = Field(examples=[7])
    posted: AtomicText = Field(description="Final.")
    pending_in: AtomicText = Field(description="Announced and not final yet.")
    pending_out: AtomicText = Field(description="Held for withdrawals and payouts under way.")
    available: AtomicText = Field(description="What can be spent now: posted minus pending_out.")
    display: str = Field(description="`available` for people, with all decimals.", examples=["0.2500000"])


class AddressMemoIn(In):
    """A memo that is to name the wallet. One that spells a number cannot: it is matched as a memo id."""

    type: Literal["text", "hash", "return"] = Field(
        description="Hash and return memos of the same value are one: the chain does not tell them apart."
    )
    value: str = Field(
        min_length=1,
        max_length=64,
        description="Up to 28 bytes of text, or 64 hex digits.",
        examples=["ACME-7001"],
    )


class AddressIn(In):
    """On which chain an address is wanted."""

    chain: str = Field(max_length=64, examples=["stellar:devnet", "eip155:31337"])
    memo: AddressMemoIn | None = Field(
        default=None, description="Stellar: a memo that senders insist on, instead of an id that is issued."
    )


class AddressOut(Out):
    """Where outsiders send money for a wallet."""

    id: str = Field(examples=["adr_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    wallet_id: str
    chain: str = Field(examples=["stellar:devnet"])
    address: str = Field(description="M address on Stellar, EIP-55 address on EVM chains.")
    account: str = Field(description="What the chain sees. On Stellar it must come with the memo below.")
    memo: str | None = Field(description="Stellar: the memo for senders that do not know M addresses.")
    memo_type: Literal["id", "text", "hash", "return"] | None


class PaymentReferenceOut(Out):
    """How payers name a wallet in a bank transfer."""

    wallet_id: str
    reference: str


@router.post("", status_code=201, response_model=WalletOut, responses=COMMAND_PROBLEMS)
async def create_wallet(body: WalletIn, command: Write) -> Response:
    """Open a wallet for a customer."""
    customer_id = CustomerId(parse_field_id("cus", body.customer_id, "customer_id"))
    wallet_id = WalletId(new_uuid())

    async def effect(uow: UnitOfWork) -> WalletOut:
        return show_wallet(
            await wallets.create_wallet(uow, command.principal.subject, wallet_id, customer_id, body.name)
        )

    return await command.run(effect)


@router.get("", responses=READ_PROBLEMS)
async def list_wallets(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[WalletOut]:
    """Wallets of all customers, oldest first."""
    start = parse_id_cursor("wallets", cursor)
    async with caller.read() as session:
        page = page_of(await wallets.list_wallets(session, start, limit + 1), limit)
    return PageOut(
        data=[show_wallet(row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("wallets", row.id)),
    )


@router.get("/{wallet_id}", responses=READ_PROBLEMS)
async def get_wallet(wallet_id: WalletPath, caller: Reader) -> WalletOut:
    """One wallet."""
    async with caller.read() as session:
        return show_wallet(await wallets.get_wallet(session, WalletId(parse_id("wal", wallet_id))))


@router.get("/{wallet_id}/balances", response_model=PageOut[BalanceOut], responses=READ_PROBLEMS)
async def get_balances(wallet_id: WalletPath, caller: Reader) -> Response:
    """What the wallet holds, per asset."""
    wanted = WalletId(parse_id("wal", wallet_id))
    reader = caller.app.db.reader
    if caller.principal.customer is not None:
        # The reader sees all of the tenant.
        async with caller.read() as session:
            await wallets.get_wallet(session, wanted)
    held = await history.balances_now(reader, caller.principal.tenant, AccountKind.WALLET, wanted)
    if not held:
        # Either it has no account yet, or there is no such wallet.
        async with caller.read() as session:
            await wallets.get_wallet(session, wanted)
    listed = await caller.app.known_assets.of(reader, [balance.key.asset for balance in held])
    shown = [show_balance(listed[balance.key.asset], balance) for balance in held]
    return show(PageOut(data=shown, next_cursor=None))


@router.post("/{wallet_id}/addresses", status_code=201, response_model=AddressOut, responses=COMMAND_PROBLEMS)
async def issue_address(wallet_id: WalletPath, body: AddressIn, command: Write) -> Response:
    """Issue a deposit address. On EVM chains a wallet has one, the same on all: asking for it on another chain enables that
    chain, and asking again answers with it. `503 deposit_pool_empty`: no address is ready at this moment, repeat the call."""
    wanted = WalletId(parse_id("wal", wallet_id))
    chain = parse_chain(command.app.clients, body.chain)
    recorded = await command.recorded()
    if recorded is not None:
        return recorded
    memo = read_memo(chain, body)
    issued = await deposits.issue_address(
        command.app.db,
        command.app.signer,
        command.principal,
        wanted,
        chain,
        command.derived_id("address"),
        memo,
    )

    async def effect(_: UnitOfWork) -> AddressOut:
        return show_address(issued)

    return await command.run(effect)


@router.get("/{wallet_id}/addresses", responses=READ_PROBLEMS)
async def list_addresses(wallet_id: WalletPath, caller: Reader) -> PageOut[AddressOut]:
    """The wallet's deposit addresses."""
    wanted = WalletId(parse_id("wal", wallet_id))
    async with caller.read() as session:
        await wallets.get_wallet(session, wanted)
        found = await wallets.list_addresses(session, wanted)
    return PageOut(data=[show_address(address) for address in found], next_cursor=None)


@router.post(
    "/{wallet_id}/payment-reference",
    status_code=201,
    response_model=PaymentReferenceOut,
    responses=COMMAND_PROBLEMS,
)
async def name_reference(wallet_id: WalletPath, command: Write, _: Empty | None = None) -> Response:
    """The text that payers must quote in a bank transfer so that it is credited to this wallet. The same for ever."""
    wanted = WalletId(parse_id("wal", wallet_id))

    async def effect(uow: UnitOfWork) -> PaymentReferenceOut:
        reference = await receipts.reference_for(uow, wanted)
        return PaymentReferenceOut(wallet_id=show_id("wal", wanted), reference=reference)

    return await command.run(effect)


def read_memo(chain: ChainId, body: AddressIn) -> AddressMemo | None:
    """The memo that is to name the wallet. Raises MemosNotKnown, InvalidAddressMemo at /memo."""
    if body.memo is None:
        return None
    with at("/memo"):
        return parse_address_memo(chain, body.memo.type, body.memo.value)


def show_wallet(wallet: Wallet) -> WalletOut:
    """A wallet as responses carry it."""
    return WalletOut(
        id=show_id("wal", wallet.id), customer_id=show_id("cus", wallet.customer_id), name=wallet.name
    )


def show_balance(asset: Asset, balance: Balance) -> BalanceOut:
    """A balance as responses carry it."""
    return BalanceOut(
        asset=asset.id.text,
        decimals=asset.decimals,
        posted=str(balance.posted),
        pending_in=str(balance.pending_in),
        pending_out=str(balance.pending_out),
        available=str(balance.available),
        display=format_units(balance.available, asset.decimals),
    )


def show_address(address: DepositAddress) -> AddressOut:
    """A deposit address as responses carry it."""
    return AddressOut(
        id=show_id("adr", address.id),
        wallet_id=show_id("wal", address.wallet_id),
        chain=address.chain,
        address=address.address,
        account=address.account,
        memo=address.shown_memo[1],
        memo_type=address.shown_memo[0],
    )
