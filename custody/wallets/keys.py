"""Keys that wait to become deposit addresses, and what becomes of them.

A key is made before anybody asks for it and goes to one wallet, for good. Its address is that wallet's on every EVM chain, but
only chains that were enabled for the wallet credit it. On the others it is watched all the same: the first money that arrives
there opens a vault without a wallet, and lands in suspense.

Nobody outside is told an address before its key is in the table, and from then on ingestion finds it there. So no block that
could hold a payment to it was read without it, and no history has to be read when it is given out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import VaultId, WalletId, derived_uuid, new_uuid
from custody.wallets import key_store, store
from custody.wallets.errors import AccountTaken, DepositPoolEmpty, KeyNotFree
from custody.wallets.model import DepositKey, KeyBatch, PoolDepth, Vault, VaultRef
from custody.wallets.transitions import DEPOSIT_KEYS

DEPOSIT = "deposit"
"""Purpose of the vaults of such keys."""
INGESTION = "ingestion"
"""Who the audit log names where nobody asked: the chain brought it."""


async def next_batch(uow: UnitOfWork, low_water: int, size: int) -> KeyBatch | None:
    """The batch to ask the signer for: one that was asked for before, or a new one of this size when fewer than `low_water` keys
    are free. None when nothing is to be done. To be committed before the signer is asked.

    Locks: the pool, so that nobody asks for more between another's look at what was asked for and at what is free."""
    await uow.lock(f"deposit_key_pool/{uow.tenant}")
    asked = await key_store.load_asked(uow)
    if asked is not None or await key_store.count_free(uow, low_water) >= low_water:
        return asked
    await key_store.insert_batch(uow, new_uuid(), size)
    return await key_store.load_asked(uow)


async def store_batch(uow: UnitOfWork, actor: str, batch: KeyBatch, keys: Sequence[DepositKey]) -> bool:
    """Put the keys of a batch into the pool. False when it is stored already. The caller has checked that the signer vouches for
    each.

    Raises AccountTaken when an account is in the table in another way.
    """
    if not await key_store.close_batch(uow, batch.id):
        return False
    try:
        await key_store.insert_keys(uow, keys)
    except IntegrityError as error:
        raise AccountTaken(batch_id=batch.id) from error
    await audit.record(uow, actor, "deposit_keys.add", batch.id, {"keys": len(keys)})
    return True


async def note_refusal(uow: UnitOfWork, batch: KeyBatch, code: str) -> None:
    """Keep why the signer has not made a batch, for whoever looks at the pool."""
    await key_store.write_refusal(uow, batch.id, code)


async def take(uow: UnitOfWork, actor: str, wallet_id: WalletId) -> DepositKey:
    """The wallet's key: the one that it has, or the oldest free one, which is the wallet's from now on. Idempotent by wallet.

    Two callers never get the same. Raises DepositPoolEmpty. Locks: the wallet's name, the key.
    """
    await uow.lock(f"deposit_key/{uow.tenant}/{wallet_id}")
    known = await key_store.load_key_of(uow, wallet_id)
    if known is not None:
        return known
    taken = await key_store.take_free(uow, wallet_id)
    if taken is None:
        raise DepositPoolEmpty
    await audit.record(
        uow,
        actor,
        "deposit_key.take",
        _subject(taken),
        {"wallet_id": str(wallet_id), "account": taken.account},
    )
    return taken


async def has_key_for(session: ReadSession, wallet_id: WalletId) -> bool:
    """Whether the wallet has a key, or one is free at this moment. Nothing is promised: `take` decides."""
    known = await key_store.load_key_of(session, wallet_id)
    return known is not None or await key_store.count_free(session, 1) > 0


async def open_vault(uow: UnitOfWork, actor: str, chain: ChainId, key: DepositKey) -> Vault:
    """The vault of a wallet's key on a chain, from now on credited to the wallet. Idempotent.

    Money that arrived before stays in suspense with its cases, except where its block is not final yet. Raises AccountTaken.
    """
    if key.wallet_id is None:
        raise InvariantViolated("a free key opens no vault for a wallet", key_id=key.key_id)
    vault = await _vault_at(uow, actor, chain, key)
    if vault.wallet_id is None:
        vault = replace(vault, wallet_id=key.wallet_id)
        if not await store.name_vault(uow, vault):
            raise AccountTaken(account=vault.account)
        detail = {**_named(vault), "wallet_id": str(vault.wallet_id)}
        await audit.record(uow, actor, "vault.enable", vault.id, detail)
    if (vault.wallet_id, vault.key_id) != (key.wallet_id, key.key_id):
        raise AccountTaken(account=vault.account)
    return vault


async def open_unclaimed(uow: UnitOfWork, chain: ChainId, refs: Collection[VaultRef]) -> None:
    """Open the vaults of the transaction's tenant that so far are only a key's account, for what a block did to them.

    Nobody is credited there. Idempotent.
    """
    accounts = [ref.account for ref in refs if not ref.is_open]
    for key in await key_store.load_keys_of_accounts(uow, accounts) if accounts else []:
        await _vault_at(uow, INGESTION, chain, key)


async def set_aside(uow: UnitOfWork, actor: str, key_id: str, reason: str) -> None:
    """Keep a free key from ever being given out. Raises KeyNotFree."""
    if not await key_store.set_aside(uow, key_id):
        raise KeyNotFree(key_id=key_id[:40])
    found = await get(uow, key_id)
    detail = {"key_id": key_id, "account": found.account, "reason": reason}
    await audit.record(uow, actor, "deposit_key.set_aside", _subject(found), detail)


async def keep_word(uow: UnitOfWork, key: DepositKey) -> None:
    """Keep the signer's newest word for a key. The caller has checked it."""
    await key_store.write_vouched(uow, key)


async def get(session: ReadSession, key_id: str) -> DepositKey:
    """A key of this tenant. Raises KeyNotFree when there is none."""
    found = await key_store.load_key(session, key_id)
    if found is None:
        raise KeyNotFree(key_id=key_id[:40])
    return found


async def find_keys_of(session: ReadSession, wallet_ids: Collection[WalletId]) -> list[DepositKey]:
    """The keys that these wallets have, those that have one: one question for a whole page."""
    return await key_store.load_keys_of_wallets(session, wallet_ids)


async def list_keys(session: ReadSession, after: str, limit: int) -> list[DepositKey]:
    """Keys in the order of their names, after one of them (empty for the first)."""
    return await key_store.load_keys(session, after, limit)


async def holder_of(session: ReadSession, vault_id: VaultId) -> WalletId | None:
    """The wallet whose key's account a vault is, also on a chain that is not enabled for it."""
    return await key_store.load_holder(session, vault_id)


async def list_misdirected(session: ReadSession, limit: int = 100) -> list[tuple[VaultId, str]]:
    """Deposit vaults on EVM chains whose row, or whose address as it is told to people, contradicts the key. Should be none.

    Each with the account that stands there.
    """
    return await key_store.load_misdirected(session, limit)


async def list_keyless(session: ReadSession, after: VaultId | None, limit: int) -> list[Vault]:
    """Deposit vaults on EVM chains with a key that was not made ahead and is not a wallet's first, after one of them."""
    return await key_store.load_keyless(session, after, limit)


async def standing(session: ReadSession, most: int = 1_000_000) -> tuple[int, KeyBatch | None]:
    """How many keys are free, counted up to `most`, and the batch that is being made. Costs the same however many were taken."""
    return await key_store.count_free(session, most), await key_store.load_asked(session)


async def depth(session: ReadSession) -> PoolDepth:
    """How the pool stands."""
    counted = await key_store.count_by_state(session)
    free, taken, aside = (counted.get(state, 0) for state in DEPOSIT_KEYS.states)
    return PoolDepth(free=free, taken=taken, set_aside=aside, asked=await key_store.load_asked(session))


async def _vault_at(uow: UnitOfWork, actor: str, chain: ChainId, key: DepositKey) -> Vault:
    """The vault of the key's account; a new one that is nobody's where there is none."""
    found = await store.load_vault_at(uow, chain, key.account)
    if found is not None:
        return found
    vault = Vault(
        id=store.key_vault_id(uow.tenant, chain, key.account),
        chain=chain,
        purpose=DEPOSIT,
        wallet_id=None,
        key_id=key.key_id,
        account=key.account,
    )
    try:
        await store.insert_vault(uow, vault)
    except IntegrityError as error:
        raise AccountTaken(account=vault.account) from error
    if key.batch_id is None:
        # It was told to people when other chains were not looked at yet.
        await store.request_history(uow, vault, None)
    await audit.record(uow, actor, "vault.create", vault.id, _named(vault))
    found = await store.load_vault_at(uow, chain, key.account)
    if found is None:
        raise InvariantViolated("a vault that was just written is not there", account=key.account)
    return found


def _named(vault: Vault) -> dict[str, str]:
    return {"chain": vault.chain, "account": vault.account, "key_id": vault.key_id}


def _subject(key: DepositKey) -> UUID:
    """The id under which the audit log knows a key."""
    return derived_uuid("deposit_key", key.key_id)
