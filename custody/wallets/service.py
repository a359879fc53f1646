"""Customers, wallets, vaults, deposit addresses, and whose money an arrival is."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import Principal
from custody.kernel.assetid import ChainId
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import AddressId, CustomerId, VaultId, WalletId
from custody.wallets import store
from custody.wallets.errors import (
    AccountTaken,
    BadName,
    CustomerExistsDifferent,
    MemoTaken,
    NoOmnibusVault,
    UnknownCustomer,
    UnknownVault,
    UnknownWallet,
)
from custody.wallets.model import CUSTOMER_KINDS, MAX_TAG, Customer, DepositAddress, Vault, VaultRef, Wallet

NAME_MAX = 200
"""Longest name of anything, in characters."""
TAG_ISSUED_MAX = 2**63 - 1
"""No tag of ours is larger (`vaults.tags_issued` is a bigint)."""


async def create_customer(
    uow: UnitOfWork,
    actor: str,
    customer_id: CustomerId,
    *,
    name: str,
    external_ref: str,
    kind: str = "customer",
) -> Customer:
    """A customer. Idempotent by external reference; raises CustomerExistsDifferent when name or kind differ."""
    if kind not in CUSTOMER_KINDS:
        raise BadName("unknown kind of customer", kind=kind[:40])
    wanted = Customer(id=customer_id, name=printable(name), external_ref=printable(external_ref), kind=kind)
    await store.insert_customer(uow, wanted)
    found = await store.find_customer(uow, wanted.external_ref)
    if found is None:
        raise InvariantViolated("a customer that was just written is not there")
    if (found.name, found.kind) != (wanted.name, wanted.kind):
        raise CustomerExistsDifferent(external_ref=external_ref)
    if found.id == customer_id:
        await audit.record(uow, actor, "customer.create", customer_id, {"kind": kind})
    return found


async def create_wallet(
    uow: UnitOfWork, actor: str, wallet_id: WalletId, customer_id: CustomerId, name: str
) -> Wallet:
    """A wallet of a customer. Raises UnknownCustomer. Idempotent by id."""
    await get_customer(uow, customer_id)
    wallet = Wallet(id=wallet_id, customer_id=customer_id, name=printable(name))
    await store.insert_wallet(uow, wallet)
    await audit.record(uow, actor, "wallet.create", wallet_id, {"customer_id": str(customer_id)})
    return await get_wallet(uow, wallet_id)


async def add_vault(
    uow: UnitOfWork, actor: str, vault: Vault, *, unused_before: datetime | None = None
) -> Vault:
    """Record a vault whose key was born in the HSM, and ask ingestion for the history of its account.

    `unused_before` is a moment before which nobody can have paid the account, because its key was not asked for yet. Without it
    the account may have been used before, and all that ingestion has read is read again for it. Idempotent by id; raises
    AccountTaken for another vault's account.
    """
    try:
        await store.insert_vault(uow, vault)
    except IntegrityError as error:
        raise AccountTaken(account=vault.account) from error
    await store.request_history(uow, vault, unused_before)
    await audit.record(
        uow,
        actor,
        "vault.create",
        vault.id,
        {"chain": vault.chain, "account": vault.account, "key_id": vault.key_id},
    )
    return await get_vault(uow, vault.id)


async def next_tag(uow: UnitOfWork, vault_id: VaultId) -> int:
    """The next unused tag of an omnibus vault, from 1. Locks the vault's row."""
    tag = await store.take_tag(uow, vault_id)
    if tag is None:
        raise UnknownVault(vault_id=str(vault_id))
    if tag > MAX_TAG:
        raise InvariantViolated("the vault has run out of tags", vault_id=str(vault_id))
    return tag


async def add_address(uow: UnitOfWork, actor: str, address: DepositAddress) -> DepositAddress:
    """Record a deposit address. Raises UnknownWallet, and MemoTaken where the memo names a wallet already."""
    await get_wallet(uow, address.wallet_id)
    try:
        await store.insert_address(uow, address)
    except IntegrityError as error:
        if address.memo is None:
            raise
        raise MemoTaken(memo_type=address.memo_type) from error
    await audit.record(
        uow,
        actor,
        "address.issue",
        address.id,
        {"wallet_id": str(address.wallet_id), "address": address.address, "memo": address.memo},
    )
    return address


async def get_customer(session: ReadSession, customer_id: CustomerId) -> Customer:
    """A customer of this tenant. Raises UnknownCustomer."""
    found = await store.load_customer(session, customer_id)
    if found is None:
        raise UnknownCustomer
    return found


async def find_customers(session: ReadSession, ids: Collection[CustomerId]) -> list[Customer]:
    """Those of these customers that are this tenant's: one question for a whole page of references."""
    return await store.load_customers_of_ids(session, ids)


async def list_customers(
    session: ReadSession, after: UUID | None, limit: int, *, external_ref: str | None = None
) -> list[Customer]:
    """Customers, oldest first: all, or the one with this external reference."""
    if external_ref is not None and "\0" in external_ref:
        return []  # Postgres stores no such text, and does not look for it either
    return await store.load_customers(session, after, limit, external_ref)


async def get_wallet(session: ReadSession, wallet_id: WalletId) -> Wallet:
    """A wallet of this tenant. Raises UnknownWallet."""
    found = await store.load_wallet(session, wallet_id)
    if found is None:
        raise UnknownWallet
    return found


async def get_own_wallet(session: ReadSession, principal: Principal, wallet_id: WalletId) -> Wallet:
    """A wallet that this principal may spend from: of this tenant, and of the one customer where the principal is one.

    Raises UnknownWallet.
    """
    found = await get_wallet(session, wallet_id)
    if principal.customer is not None and found.customer_id != principal.customer:
        raise UnknownWallet
    return found


async def find_wallets(session: ReadSession, ids: Collection[WalletId]) -> list[Wallet]:
    """Those of these wallets that are this tenant's: one question for a whole page of references."""
    return await store.load_wallets_of_ids(session, ids)


async def list_wallets(session: ReadSession, after: UUID | None, limit: int) -> list[Wallet]:
    """Wallets of all customers, oldest first."""
    return await store.load_wallets(session, after, limit)


async def list_wallets_of(
    session: ReadSession, customer_ids: Collection[CustomerId], most_of_each: int
) -> list[Wallet]:
    """The oldest wallets of each of these customers, oldest first."""
    return await store.load_wallets_of_customers(session, customer_ids, most_of_each)


async def get_vault(session: ReadSession, vault_id: VaultId) -> Vault:
    """A vault of this tenant. Raises UnknownVault."""
    found = await store.load_vault(session, vault_id)
    if found is None:
        raise UnknownVault
    return found


async def list_vaults(
    session: ReadSession, chain: ChainId | None = None, purpose: str | None = None
) -> list[Vault]:
    """The tenant's vaults, on one chain or on all, for one purpose or for any; oldest first."""
    return await store.load_vaults(session, chain, purpose)


async def find_vaults_of(session: ReadSession, ids: Collection[VaultId]) -> list[Vault]:
    """Those of these vaults that are this tenant's: one question for many."""
    return await store.load_vaults_of_ids(session, ids)


async def list_accounts(session: ReadSession, chain: ChainId, limit: int) -> list[str]:
    """The accounts that are the tenant's on a chain, its deposit keys' among them, so many at most."""
    return await store.load_accounts(session, chain, limit)


async def omnibus(session: ReadSession, chain: ChainId) -> Vault:
    """The vault that pays this chain's withdrawals: the tenant's oldest omnibus vault there. Raises NoOmnibusVault."""
    found = await store.load_vaults(session, chain, "omnibus")
    if not found:
        raise NoOmnibusVault(chain=chain)
    return found[0]


async def find_address(session: ReadSession, address_id: AddressId) -> DepositAddress | None:
    """A deposit address by id, or None."""
    return await store.load_address(session, address_id)


async def list_addresses(session: ReadSession, *wallet_ids: WalletId) -> list[DepositAddress]:
    """The deposit addresses of these wallets."""
    return await store.load_addresses(session, wallet_ids)


async def find_vaults(session: ReadSession, chain: ChainId, accounts: Collection[str]) -> list[VaultRef]:
    """Which of these accounts are vaults, or could be (`VaultRef.is_open`), of whichever tenant. For ingestion, which sees every
    account of a block."""
    if not accounts:
        return []
    return await store.find_refs(session, chain, accounts)


async def list_watched(session: ReadSession, chain: ChainId, after: str, limit: int) -> list[VaultRef]:
    """Vaults of a chain, of whichever tenant, in the order of their accounts, after one of them. For ingestion's survey."""
    return await store.list_refs(session, chain, after, limit)


async def attribute(
    session: ReadSession, vault_id: VaultId, tag: int | None, memo: str | None = None
) -> WalletId | None:
    """The wallet that money arriving at this vault with this tag, or these words of a memo, belongs to; None where they name
    nobody.

    Tags are issued from a signed 64-bit counter, but a sender may write any unsigned one.
    """
    if tag is not None and tag > TAG_ISSUED_MAX:
        return None
    return await store.find_wallet_of(session, vault_id, tag, memo)


def printable(name: str) -> str:
    """The name itself. Raises BadName when empty, too long, or not printable."""
    if not 1 <= len(name) <= NAME_MAX or not name.isprintable() or name != name.strip():
        raise BadName(name=name[:40])
    return name
