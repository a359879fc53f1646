"""Customers, their wallets, and what these hold."""

from __future__ import annotations

import orjson
import strawberry
from strawberry.types import Info

from api.graphql.context import Context
from custody.assets.model import Asset as AssetModel
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import CustomerId, WalletId, show_id
from custody.kernel.money import format_units
from custody.ledger.model import Balance as BalanceModel
from custody.seals.errors import NotInTree
from custody.seals.publication import OwnProof
from custody.wallets.model import Customer as CustomerModel
from custody.wallets.model import DepositAddress as AddressModel
from custody.wallets.model import Wallet as WalletModel

PROOF_COST = 100
"""Objects that one proof counts for: a hundred proofs are the most that one answer holds."""


@strawberry.interface
class Node:
    """Anything with an id. Ids are the same as in REST, and unique over all kinds."""

    id: strawberry.ID


@strawberry.type
class Asset:
    """A listed asset."""

    id: str
    chain: str
    code: str
    decimals: int


@strawberry.type
class Money:
    """So much of one asset. `atomic` is a string of atomic units: no client's float ever touches it."""

    asset: Asset
    atomic: str
    decimals: int
    display: str


@strawberry.type
class Balance:
    """What a wallet holds of one asset, in atomic units; `display` is `available` for people. `pendingIn` is announced and not
    final yet; `reserved` is held for withdrawals and payouts under way, and so is `pendingOut`, its older name; `available` is
    posted less reserved."""

    asset: Asset
    posted: str
    pending_in: str
    pending_out: str
    reserved: str
    available: str
    decimals: int
    display: str


@strawberry.type
class DepositAddress(Node):
    """Where outsiders send money for a wallet. On Stellar either the M address, or the account with the memo."""

    id: strawberry.ID
    chain: str
    address: str
    account: str
    memo_type: str | None
    memo: str | None


@strawberry.type
class LiabilityProof:
    """What is owed to one wallet in one asset at the checkpoint that was published last, with the proof that it is counted in
    what is owed to all. `document` is a JSON object that `docs/verify_balance.py` checks against `root`; it names no other wallet
    and shows no other balance."""

    asset: Asset
    checkpoint: str
    balance: str
    root: str
    total: str
    document: str


@strawberry.type
class Wallet(Node):
    """What a customer owns."""

    id: strawberry.ID
    name: str
    model: strawberry.Private[WalletModel]

    @strawberry.field
    async def customer(self, info: Info[Context, None]) -> Customer | None:
        """Whose it is."""
        found = await info.context.customers.load(self.model.customer_id)
        info.context.budget.spend(1)
        return None if found is None else show_customer(found)

    @strawberry.field
    async def balances(self, info: Info[Context, None]) -> list[Balance]:
        """What it holds, per asset."""
        held = await info.context.balances.load(self.model.id)
        info.context.budget.spend(len(held))
        return [show_balance(await info.context.asset(balance.key.asset), balance) for balance in held]

    @strawberry.field
    async def addresses(self, info: Info[Context, None]) -> list[DepositAddress]:
        """Where outsiders send money for it."""
        found = await info.context.addresses.load(self.model.id)
        info.context.budget.spend(len(found))
        return [show_address(address) for address in found]

    @strawberry.field
    async def evm_account(self, info: Info[Context, None]) -> str | None:
        """Its own address on every EVM chain; null before one was asked for. Only the chains among `addresses` credit it: what is
        sent to it on another chain waits in a case."""
        found = await info.context.deposit_keys.load(self.model.id)
        info.context.budget.spend(1)
        return None if found is None else found.account

    @strawberry.field
    async def liability_proof(self, info: Info[Context, None], asset: strawberry.ID) -> LiabilityProof | None:
        """Its own proof of liabilities in one asset. Errors: `not_sealed` while nothing is published, `not_in_liabilities` when
        nothing was owed to it."""
        wanted = parse_asset_id(str(asset))
        info.context.budget.spend(PROOF_COST)
        found = await info.context.liability_proofs.load((self.model.id, wanted))
        if found is None:
            raise NotInTree(wallet=str(self.model.id), asset=wanted.text)
        return show_liability_proof(await info.context.asset(wanted), found)


@strawberry.type
class Customer(Node):
    """Somebody for whom the tenant holds money; or, of kind `treasury`, the tenant itself."""

    id: strawberry.ID
    name: str
    external_ref: str
    kind: str
    key: strawberry.Private[CustomerId]

    @strawberry.field
    async def wallets(self, info: Info[Context, None]) -> list[Wallet]:
        """Their wallets, oldest first; at most a hundred."""
        found = await info.context.wallets_of.load(self.key)
        info.context.budget.spend(len(found))
        return [show_wallet(wallet) for wallet in found]


def show_asset(asset: AssetModel) -> Asset:
    """A listed asset."""
    return Asset(id=asset.id.text, chain=asset.id.chain, code=asset.code, decimals=asset.decimals)


def show_money(asset: AssetModel, atomic: int) -> Money:
    """An amount of it."""
    return Money(
        asset=show_asset(asset),
        atomic=str(atomic),
        decimals=asset.decimals,
        display=format_units(atomic, asset.decimals),
    )


def show_balance(asset: AssetModel, balance: BalanceModel) -> Balance:
    """A wallet's balance of one asset."""
    return Balance(
        asset=show_asset(asset),
        posted=str(balance.posted),
        pending_in=str(balance.pending_in),
        pending_out=str(balance.pending_out),
        reserved=str(balance.pending_out),
        available=str(balance.available),
        decimals=asset.decimals,
        display=format_units(balance.available, asset.decimals),
    )


def show_address(address: AddressModel) -> DepositAddress:
    """A deposit address."""
    return DepositAddress(
        id=strawberry.ID(show_id("adr", address.id)),
        chain=address.chain,
        address=address.address,
        account=address.account,
        memo_type=address.shown_memo[0],
        memo=address.shown_memo[1],
    )


def show_wallet(wallet: WalletModel) -> Wallet:
    """A wallet."""
    return Wallet(id=strawberry.ID(show_id("wal", wallet.id)), name=wallet.name, model=wallet)


def show_customer(customer: CustomerModel) -> Customer:
    """A customer."""
    return Customer(
        id=strawberry.ID(show_id("cus", customer.id)),
        name=customer.name,
        external_ref=customer.external_ref,
        kind=customer.kind,
        key=customer.id,
    )


def show_liability_proof(asset: AssetModel, proof: OwnProof) -> LiabilityProof:
    """A wallet's own proof."""
    return LiabilityProof(
        asset=show_asset(asset),
        checkpoint=str(proof.sequence),
        balance=str(proof.balance),
        root=proof.root.hex(),
        total=str(proof.total),
        document=orjson.dumps(proof.document).decode(),
    )


async def find_wallet(info: Info[Context, None], wallet_id: WalletId) -> Wallet | None:
    """The tenant's wallet, or None: another tenant's looks the same."""
    found = await info.context.wallets.load(wallet_id)
    return None if found is None else show_wallet(found)
