"""SQL of the keys that wait to become deposit addresses."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.ids import VaultId, WalletId
from custody.wallets.model import DepositKey, KeyBatch, Vault
from custody.wallets.store import vault_of
from custody.wallets.tables import deposit_addresses, deposit_key_batches, deposit_keys, vaults
from custody.wallets.transitions import DEPOSIT_KEYS, KEY_BATCHES

_NOW = func.clock_timestamp()


async def load_asked(session: ReadSession) -> KeyBatch | None:
    """The tenant's batch that the signer was asked for and that is not stored yet."""
    rows = await session.conn.execute(
        select(deposit_key_batches).where(
            deposit_key_batches.c.tenant_id == session.tenant,
            deposit_key_batches.c.state.in_(KEY_BATCHES.sources("store")),
        )
    )
    row = rows.one_or_none()
    return None if row is None else _batch(row)


async def insert_batch(uow: UnitOfWork, batch_id: UUID, size: int) -> None:
    """Write that a batch is asked for. Does nothing where another one is under way."""
    await uow.conn.execute(
        upsert(deposit_key_batches)
        .values(tenant_id=uow.tenant, id=batch_id, size=size, state=KEY_BATCHES.initial)
        .on_conflict_do_nothing()
    )


async def close_batch(uow: UnitOfWork, batch_id: UUID) -> bool:
    """Note that a batch is stored, and lock it. False where somebody else has stored it."""
    rows = await uow.conn.execute(
        update(deposit_key_batches)
        .where(
            deposit_key_batches.c.tenant_id == uow.tenant,
            deposit_key_batches.c.id == batch_id,
            deposit_key_batches.c.state.in_(KEY_BATCHES.sources("store")),
        )
        .values(state=KEY_BATCHES.target_of("store"), refusal="", changed_at=_NOW)
    )
    return rows.rowcount == 1


async def write_refusal(uow: UnitOfWork, batch_id: UUID, code: str) -> None:
    """Note why the signer has not made a batch."""
    await uow.conn.execute(
        update(deposit_key_batches)
        .where(
            deposit_key_batches.c.tenant_id == uow.tenant,
            deposit_key_batches.c.id == batch_id,
            deposit_key_batches.c.state.in_(KEY_BATCHES.sources("store")),
        )
        .values(refusal=code, changed_at=_NOW)
    )


async def insert_keys(uow: UnitOfWork, keys: Collection[DepositKey]) -> None:
    """Write new keys. One that is there already, or an account that is, raises IntegrityError."""
    await uow.conn.execute(
        deposit_keys.insert(),
        [
            {
                "tenant_id": uow.tenant,
                "key_id": key.key_id,
                "account": key.account,
                "public_key": key.public_key,
                "attestation": key.attestation,
                "batch_id": key.batch_id,
                "state": key.state,
            }
            for key in keys
        ],
    )


async def take_free(uow: UnitOfWork, wallet_id: WalletId) -> DepositKey | None:
    """Give the oldest free key that nobody else is taking at this moment to a wallet; None where there is none.

    Raises IntegrityError when the wallet has one.
    """
    free = (
        select(deposit_keys.c.key_id)
        .where(deposit_keys.c.tenant_id == uow.tenant, deposit_keys.c.state.in_(DEPOSIT_KEYS.sources("take")))
        .order_by(deposit_keys.c.sequence)
        .limit(1)
        .with_for_update(skip_locked=True)
        .cte("free")
    )
    rows = await uow.conn.execute(
        update(deposit_keys)
        .where(deposit_keys.c.tenant_id == uow.tenant, deposit_keys.c.key_id == free.c.key_id)
        .values(state=DEPOSIT_KEYS.target_of("take"), wallet_id=wallet_id, changed_at=_NOW)
        .returning(*deposit_keys.c)
    )
    row = rows.one_or_none()
    return None if row is None else _key(row)


async def set_aside(uow: UnitOfWork, key_id: str) -> bool:
    """Give a free key to nobody, ever. False when it is not free."""
    rows = await uow.conn.execute(
        update(deposit_keys)
        .where(
            deposit_keys.c.tenant_id == uow.tenant,
            deposit_keys.c.key_id == key_id,
            deposit_keys.c.state.in_(DEPOSIT_KEYS.sources("set_aside")),
        )
        .values(state=DEPOSIT_KEYS.target_of("set_aside"), changed_at=_NOW)
    )
    return rows.rowcount == 1


async def write_vouched(uow: UnitOfWork, key: DepositKey) -> None:
    """Keep the signer's newest word for a key."""
    await uow.conn.execute(
        update(deposit_keys)
        .where(deposit_keys.c.tenant_id == uow.tenant, deposit_keys.c.key_id == key.key_id)
        .values(public_key=key.public_key, attestation=key.attestation, changed_at=_NOW)
    )


async def load_key(session: ReadSession, key_id: str) -> DepositKey | None:
    """A key by its name in the HSM."""
    return await _load_one(session, deposit_keys.c.key_id == key_id)


async def load_key_of(session: ReadSession, wallet_id: WalletId) -> DepositKey | None:
    """The key that a wallet has."""
    return await _load_one(session, deposit_keys.c.wallet_id == wallet_id)


async def _load_one(session: ReadSession, which: ColumnElement[bool]) -> DepositKey | None:
    rows = await session.conn.execute(
        select(deposit_keys).where(deposit_keys.c.tenant_id == session.tenant, which)
    )
    row = rows.one_or_none()
    return None if row is None else _key(row)


async def load_keys_of_wallets(session: ReadSession, wallet_ids: Collection[WalletId]) -> list[DepositKey]:
    """The keys that these wallets have."""
    rows = await session.conn.execute(
        select(deposit_keys).where(
            deposit_keys.c.tenant_id == session.tenant, deposit_keys.c.wallet_id.in_(list(wallet_ids))
        )
    )
    return [_key(row) for row in rows]


async def load_keys(session: ReadSession, after: str, limit: int) -> list[DepositKey]:
    """Keys by their names, after one of them."""
    rows = await session.conn.execute(
        select(deposit_keys)
        .where(deposit_keys.c.tenant_id == session.tenant, deposit_keys.c.key_id > after)
        .order_by(deposit_keys.c.key_id)
        .limit(limit)
    )
    return [_key(row) for row in rows]


async def load_keys_of_accounts(session: ReadSession, accounts: Collection[str]) -> list[DepositKey]:
    """The tenant's keys behind these accounts."""
    rows = await session.conn.execute(
        select(deposit_keys).where(
            deposit_keys.c.tenant_id == session.tenant, deposit_keys.c.account.in_(list(accounts))
        )
    )
    return [_key(row) for row in rows]


async def load_misdirected(session: ReadSession, limit: int) -> list[tuple[VaultId, str]]:
    """Deposit vaults and addresses on EVM chains that contradict the keys: each vault with the account that is told or kept."""
    of_key = (deposit_keys.c.tenant_id == vaults.c.tenant_id) & (deposit_keys.c.account == vaults.c.account)
    told = (deposit_addresses.c.tenant_id == vaults.c.tenant_id) & (
        deposit_addresses.c.vault_id == vaults.c.id
    )
    rows = await session.conn.execute(
        select(vaults.c.id, func.coalesce(deposit_addresses.c.address, vaults.c.account).label("account"))
        .select_from(vaults.outerjoin(deposit_keys, of_key).outerjoin(deposit_addresses, told))
        .where(
            vaults.c.tenant_id == session.tenant,
            vaults.c.purpose == "deposit",
            vaults.c.chain.startswith("eip155:", autoescape=True),
            or_(
                (vaults.c.key_id != deposit_keys.c.key_id),
                vaults.c.wallet_id.is_not(None)
                & deposit_keys.c.key_id.is_not(None)
                & vaults.c.wallet_id.is_distinct_from(deposit_keys.c.wallet_id),
                deposit_addresses.c.address != vaults.c.account,
                deposit_addresses.c.account != vaults.c.account,
                deposit_addresses.c.id.is_not(None)
                & deposit_addresses.c.wallet_id.is_distinct_from(vaults.c.wallet_id),
            ),
        )
        .order_by(vaults.c.id)
        .limit(limit)
    )
    return [(VaultId(row.id), row.account) for row in rows]


async def load_keyless(session: ReadSession, after: VaultId | None, limit: int) -> list[Vault]:
    """Deposit vaults on EVM chains whose key is none of the table's, after one of them: made before keys were made ahead."""
    of_key = (deposit_keys.c.tenant_id == vaults.c.tenant_id) & (deposit_keys.c.account == vaults.c.account)
    query = (
        select(vaults)
        .select_from(vaults.outerjoin(deposit_keys, of_key))
        .where(
            vaults.c.tenant_id == session.tenant,
            vaults.c.purpose == "deposit",
            vaults.c.chain.startswith("eip155:", autoescape=True),
            deposit_keys.c.key_id.is_(None),
        )
    )
    if after is not None:
        query = query.where(vaults.c.id > after)
    rows = await session.conn.execute(query.order_by(vaults.c.id).limit(limit))
    return [vault_of(row) for row in rows]


async def count_free(session: ReadSession, most: int) -> int:
    """How many free keys there are, but no more than `most`: what the answer costs does not grow with the pool."""
    some = (
        select(deposit_keys.c.key_id)
        .where(
            deposit_keys.c.tenant_id == session.tenant,
            deposit_keys.c.state == DEPOSIT_KEYS.initial,
        )
        .limit(most)
        .subquery()
    )
    rows = await session.conn.execute(select(func.count()).select_from(some))
    return int(rows.scalar_one())


async def count_by_state(session: ReadSession) -> dict[str, int]:
    """How many keys there are in each state."""
    rows = await session.conn.execute(
        select(deposit_keys.c.state, func.count().label("total"))
        .where(deposit_keys.c.tenant_id == session.tenant)
        .group_by(deposit_keys.c.state)
    )
    return {row.state: int(row.total) for row in rows}


async def load_holder(session: ReadSession, vault_id: VaultId) -> WalletId | None:
    """The wallet that has the key of this vault, whether or not the vault's chain is enabled for it."""
    rows = await session.conn.execute(
        select(deposit_keys.c.wallet_id)
        .join(
            vaults,
            (vaults.c.tenant_id == deposit_keys.c.tenant_id) & (vaults.c.account == deposit_keys.c.account),
        )
        .where(deposit_keys.c.tenant_id == session.tenant, vaults.c.id == vault_id)
    )
    found = rows.scalar_one_or_none()
    return None if found is None else WalletId(found)


def _key(row: Row[Any]) -> DepositKey:
    return DepositKey(
        key_id=row.key_id,
        account=row.account,
        public_key=row.public_key,
        attestation=row.attestation,
        state=row.state,
        wallet_id=None if row.wallet_id is None else WalletId(row.wallet_id),
        batch_id=row.batch_id,
    )


def _batch(row: Row[Any]) -> KeyBatch:
    return KeyBatch(id=row.id, size=row.size, state=row.state, refusal=row.refusal)
