"""SQL of wallets."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Row, bindparam, func, insert, select, text, union, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.chains.address import EVM, namespace
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.ids import AddressId, CustomerId, TenantId, VaultId, WalletId, derived_uuid
from custody.wallets.model import Customer, DepositAddress, Vault, VaultRef, Wallet
from custody.wallets.tables import customers, deposit_addresses, deposit_keys, vaults, wallets
from custody.wallets.transitions import DEPOSIT_KEYS

_OF_IDS = "SELECT id, customer_id, name FROM wallets WHERE tenant_id = $1 AND id = ANY($2::uuid[])"


async def insert_customer(uow: UnitOfWork, customer: Customer) -> None:
    """Write a customer unless the external reference is known."""
    await uow.conn.execute(
        upsert(customers)
        .values(
            tenant_id=uow.tenant,
            id=customer.id,
            name=customer.name,
            external_ref=customer.external_ref,
            kind=customer.kind,
        )
        .on_conflict_do_nothing()
    )


async def find_customer(session: ReadSession, external_ref: str) -> Customer | None:
    """The customer with this external reference."""
    rows = await session.conn.execute(
        select(customers).where(
            customers.c.tenant_id == session.tenant, customers.c.external_ref == external_ref
        )
    )
    row = rows.one_or_none()
    return None if row is None else _customer(row)


async def load_customer(session: ReadSession, customer_id: CustomerId) -> Customer | None:
    """A customer by id."""
    rows = await session.conn.execute(
        select(customers).where(customers.c.tenant_id == session.tenant, customers.c.id == customer_id)
    )
    row = rows.one_or_none()
    return None if row is None else _customer(row)


async def load_customers(
    session: ReadSession, after: UUID | None, limit: int, external_ref: str | None
) -> list[Customer]:
    """Customers by id, oldest first, after one of them; of all, or only the one with this external reference."""
    query = select(customers).where(customers.c.tenant_id == session.tenant)
    if external_ref is not None:
        query = query.where(customers.c.external_ref == external_ref)
    if after is not None:
        query = query.where(customers.c.id > after)
    rows = await session.conn.execute(query.order_by(customers.c.id).limit(limit))
    return [_customer(row) for row in rows]


async def load_customers_of_ids(session: ReadSession, ids: Collection[CustomerId]) -> list[Customer]:
    """Those of these customers that are this tenant's, in no particular order."""
    rows = await session.conn.execute(
        select(customers).where(customers.c.tenant_id == session.tenant, customers.c.id.in_(list(ids)))
    )
    return [_customer(row) for row in rows]


async def insert_wallet(uow: UnitOfWork, wallet: Wallet) -> None:
    """Write a wallet unless its id is known."""
    await uow.conn.execute(
        upsert(wallets)
        .values(tenant_id=uow.tenant, id=wallet.id, customer_id=wallet.customer_id, name=wallet.name)
        .on_conflict_do_nothing()
    )


async def load_wallet(session: ReadSession, wallet_id: WalletId) -> Wallet | None:
    """A wallet by id."""
    rows = await session.conn.execute(
        select(wallets).where(wallets.c.tenant_id == session.tenant, wallets.c.id == wallet_id)
    )
    row = rows.one_or_none()
    return None if row is None else _wallet(row)


async def load_wallets(session: ReadSession, after: UUID | None, limit: int) -> list[Wallet]:
    """Wallets of all customers, by id."""
    query = select(wallets).where(wallets.c.tenant_id == session.tenant)
    if after is not None:
        query = query.where(wallets.c.id > after)
    rows = await session.conn.execute(query.order_by(wallets.c.id).limit(limit))
    return [_wallet(row) for row in rows]


async def load_wallets_of_customers(
    session: ReadSession, customer_ids: Collection[CustomerId], most_of_each: int
) -> list[Wallet]:
    """The first wallets of each of these customers, by id."""
    place = func.row_number().over(partition_by=wallets.c.customer_id, order_by=wallets.c.id)
    placed = (
        select(wallets, place.label("place"))
        .where(wallets.c.tenant_id == session.tenant, wallets.c.customer_id.in_(list(customer_ids)))
        .subquery()
    )
    rows = await session.conn.execute(
        select(placed).where(placed.c.place <= most_of_each).order_by(placed.c.id)
    )
    return [_wallet(row) for row in rows]


async def load_wallets_of_ids(session: ReadSession, ids: Collection[WalletId]) -> list[Wallet]:
    """Those of these wallets that are this tenant's, in no particular order."""
    rows = await session.fetch(_OF_IDS, session.tenant, list(ids))
    return [
        Wallet(id=WalletId(wallet_id), customer_id=CustomerId(customer_id), name=name)
        for wallet_id, customer_id, name in rows
    ]


async def insert_vault(uow: UnitOfWork, vault: Vault) -> None:
    """Write a vault unless its id is known. A taken account raises IntegrityError."""
    await uow.conn.execute(
        upsert(vaults)
        .values(
            tenant_id=uow.tenant,
            id=vault.id,
            chain=vault.chain,
            purpose=vault.purpose,
            wallet_id=vault.wallet_id,
            key_id=vault.key_id,
            account=vault.account,
        )
        .on_conflict_do_nothing(index_elements=["tenant_id", "id"])
    )


async def name_vault(uow: UnitOfWork, vault: Vault) -> bool:
    """Give a deposit vault that nobody has yet to its wallet. False when it is somebody's."""
    rows = await uow.conn.execute(
        update(vaults)
        .where(
            vaults.c.tenant_id == uow.tenant,
            vaults.c.id == vault.id,
            vaults.c.purpose == "deposit",
            vaults.c.wallet_id.is_(None),
        )
        .values(wallet_id=vault.wallet_id)
    )
    return rows.rowcount == 1


async def load_vault_at(session: ReadSession, chain: ChainId, account: str) -> Vault | None:
    """The tenant's vault with this account."""
    rows = await session.conn.execute(
        select(vaults).where(
            vaults.c.tenant_id == session.tenant, vaults.c.chain == chain, vaults.c.account == account
        )
    )
    row = rows.one_or_none()
    return None if row is None else vault_of(row)


async def request_history(uow: UnitOfWork, vault: Vault, unused_before: datetime | None) -> None:
    """Ask ingestion, through a function of the database, for what the account did in blocks that it has passed. Once a vault."""
    await uow.conn.execute(
        text("SELECT request_history(:chain, :account, :unused_before)").bindparams(
            bindparam("unused_before", type_=DateTime(timezone=True))
        ),
        {"chain": vault.chain, "account": vault.account, "unused_before": unused_before},
    )


async def load_vault(session: ReadSession, vault_id: VaultId) -> Vault | None:
    """A vault by id."""
    rows = await session.conn.execute(
        select(vaults).where(vaults.c.tenant_id == session.tenant, vaults.c.id == vault_id)
    )
    row = rows.one_or_none()
    return None if row is None else vault_of(row)


async def load_vaults(session: ReadSession, chain: ChainId | None, purpose: str | None) -> list[Vault]:
    """The tenant's vaults, oldest first."""
    query = select(vaults).where(vaults.c.tenant_id == session.tenant)
    if chain is not None:
        query = query.where(vaults.c.chain == chain)
    if purpose is not None:
        query = query.where(vaults.c.purpose == purpose)
    rows = await session.conn.execute(query.order_by(vaults.c.id))
    return [vault_of(row) for row in rows]


async def load_vaults_of_ids(session: ReadSession, ids: Collection[VaultId]) -> list[Vault]:
    """Those of these vaults that are this tenant's, oldest first."""
    rows = await session.conn.execute(
        select(vaults)
        .where(vaults.c.tenant_id == session.tenant, vaults.c.id.in_(list(ids)))
        .order_by(vaults.c.id)
    )
    return [vault_of(row) for row in rows]


async def find_refs(session: ReadSession, chain: ChainId, accounts: Collection[str]) -> list[VaultRef]:
    """Vaults and deposit keys of any tenant behind these accounts, through a function that answers for exact accounts only."""
    rows = await session.conn.execute(
        text("SELECT tenant_id, id, account FROM find_vaults(:chain, :accounts)"),
        {"chain": chain, "accounts": list(accounts)},
    )
    return [
        VaultRef(
            tenant=TenantId(row.tenant_id),
            vault_id=key_vault_id(TenantId(row.tenant_id), chain, row.account)
            if row.id is None
            else VaultId(row.id),
            account=row.account,
            is_open=row.id is not None,
        )
        for row in rows
    ]


async def load_accounts(session: ReadSession, chain: ChainId, limit: int) -> list[str]:
    """Accounts that are the tenant's on a chain, in no order, so many at most: those that `find_vaults` knows."""
    vault_accounts = select(vaults.c.account).where(
        vaults.c.tenant_id == session.tenant, vaults.c.chain == chain
    )
    key_accounts = select(deposit_keys.c.account).where(
        deposit_keys.c.tenant_id == session.tenant,
        deposit_keys.c.state != DEPOSIT_KEYS.target_of("set_aside"),
    )
    held = union(vault_accounts, key_accounts) if namespace(chain) == EVM else vault_accounts
    return list((await session.conn.execute(held.limit(limit))).scalars())


async def list_refs(session: ReadSession, chain: ChainId, after: str, limit: int) -> list[VaultRef]:
    """Vaults of any tenant in the order of their accounts, after one of them."""
    rows = await session.conn.execute(
        text("SELECT tenant_id, id, account FROM list_vaults(:chain, :after, :limit)"),
        {"chain": chain, "after": after, "limit": limit},
    )
    return [
        VaultRef(tenant=TenantId(row.tenant_id), vault_id=VaultId(row.id), account=row.account)
        for row in rows
    ]


def key_vault_id(tenant: TenantId, chain: ChainId, account: str) -> VaultId:
    """The id of the vault that a deposit key's account has on a chain, whoever opens it first: its wallet, or what arrives."""
    return VaultId(derived_uuid("vault of a deposit key", tenant, chain, account))


async def take_tag(uow: UnitOfWork, vault_id: VaultId) -> int | None:
    """Count one more tag of the vault; its number. None when there is no such vault."""
    rows = await uow.conn.execute(
        update(vaults)
        .where(vaults.c.tenant_id == uow.tenant, vaults.c.id == vault_id)
        .values(tags_issued=vaults.c.tags_issued + 1)
        .returning(vaults.c.tags_issued)
    )
    tag = rows.scalar_one_or_none()
    return None if tag is None else int(tag)


async def insert_address(uow: UnitOfWork, address: DepositAddress) -> None:
    """Write a deposit address. A name that is taken raises IntegrityError."""
    await uow.conn.execute(
        insert(deposit_addresses).values(
            tenant_id=uow.tenant,
            id=address.id,
            wallet_id=address.wallet_id,
            vault_id=address.vault_id,
            chain=address.chain,
            address=address.address,
            account=address.account,
            tag=address.tag,
            memo_type=address.memo_type,
            memo=address.memo,
        )
    )


async def load_address(session: ReadSession, address_id: AddressId) -> DepositAddress | None:
    """A deposit address by id."""
    rows = await session.conn.execute(
        select(deposit_addresses).where(
            deposit_addresses.c.tenant_id == session.tenant, deposit_addresses.c.id == address_id
        )
    )
    row = rows.one_or_none()
    return None if row is None else _address(row)


async def load_addresses(session: ReadSession, wallet_ids: Collection[WalletId]) -> list[DepositAddress]:
    """The addresses of some wallets, oldest first."""
    rows = await session.conn.execute(
        select(deposit_addresses)
        .where(
            deposit_addresses.c.tenant_id == session.tenant,
            deposit_addresses.c.wallet_id.in_(list(wallet_ids)),
        )
        .order_by(deposit_addresses.c.id)
    )
    return [_address(row) for row in rows]


async def find_wallet_of(
    session: ReadSession, vault_id: VaultId, tag: int | None, memo: str | None
) -> WalletId | None:
    """Whose money arrives at this vault with this tag or memo: the vault's own wallet, or theirs."""
    rows = await session.conn.execute(
        select(func.coalesce(vaults.c.wallet_id, deposit_addresses.c.wallet_id))
        .select_from(
            vaults.outerjoin(
                deposit_addresses,
                (deposit_addresses.c.tenant_id == vaults.c.tenant_id)
                & (deposit_addresses.c.vault_id == vaults.c.id)
                & (deposit_addresses.c.tag == (None if tag is None else Decimal(tag)))
                & (deposit_addresses.c.memo == memo),
            )
        )
        .where(vaults.c.tenant_id == session.tenant, vaults.c.id == vault_id)
    )
    found = rows.scalar_one_or_none()
    return None if found is None else WalletId(found)


def _customer(row: Row[Any]) -> Customer:
    return Customer(id=CustomerId(row.id), name=row.name, external_ref=row.external_ref, kind=row.kind)


def _wallet(row: Row[Any]) -> Wallet:
    return Wallet(id=WalletId(row.id), customer_id=CustomerId(row.customer_id), name=row.name)


def vault_of(row: Row[Any]) -> Vault:
    """The vault in a row of its table."""
    return Vault(
        id=VaultId(row.id),
        chain=ChainId(row.chain),
        purpose=row.purpose,
        wallet_id=None if row.wallet_id is None else WalletId(row.wallet_id),
        key_id=row.key_id,
        account=row.account,
    )


def _address(row: Row[Any]) -> DepositAddress:
    return DepositAddress(
        id=AddressId(row.id),
        wallet_id=WalletId(row.wallet_id),
        vault_id=VaultId(row.vault_id),
        chain=ChainId(row.chain),
        address=row.address,
        account=row.account,
        tag=None if row.tag is None else int(row.tag),
        memo_type=row.memo_type,
        memo=row.memo,
    )
