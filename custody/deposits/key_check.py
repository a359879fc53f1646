"""What becomes of a row that the signer's known key did not sign for, and a look at every key, vault and address of a tenant.

The signature is missing for keys that are older than the pool, and by another key after the signer's has been renewed. Then the
signer itself is asked; where it does not know the key, somebody else put it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from custody.chains.evm.address import account_of_key
from custody.db.session import Database
from custody.deposits.key_pool import attester_of, is_trusted
from custody.deposits.ports import KeyVoucher
from custody.kernel.ids import TenantId, VaultId
from custody.signing.errors import SignerRefused
from custody.wallets import keys as pool
from custody.wallets.errors import KeyNotVouchedFor
from custody.wallets.keys import DEPOSIT
from custody.wallets.model import DepositKey, Vault
from custody.wallets.transitions import DEPOSIT_KEYS

_PAGE = 200
"""Keys that are looked at, and that the signer is asked about, at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What a look at every key of a pool came to."""

    keys: int
    """How many there are."""
    renewed: tuple[DepositKey, ...]
    """Those whose word was none of the signer's present key, and for which it vouches all the same."""
    foreign: tuple[str, ...]
    """Accounts of those that the signer does not know: whoever put them there holds their private keys."""
    misdirected: tuple[str, ...]
    """Accounts in vaults or addresses that contradict the keys: what is paid there may not be ours, or is credited wrongly."""


async def ask_again(db: Database, signer: KeyVoucher, tenant: TenantId, key: DepositKey) -> DepositKey:
    """Have the signer vouch for a key now, and keep its word. Raises KeyNotVouchedFor when it is not the signer's."""
    renewed = await _ask(db, signer, tenant, [key])
    if not renewed:
        raise KeyNotVouchedFor(key_id=key.key_id, account=key.account)
    return renewed[0]


async def inspect(db: Database, signer: KeyVoucher, tenant: TenantId) -> Inspection:
    """Hold every key, deposit vault and address of the tenant on EVM chains against the signer and against each other.

    Keys that were set aside are passed over. The signer's newest word is kept.
    """
    seen, renewed, foreign = 0, list[DepositKey](), list[str]()
    after = ""
    while page := await _page(db, tenant, after):
        after = page[-1].key_id
        live = [key for key in page if key.state != DEPOSIT_KEYS.target_of("set_aside")]
        seen += len(live)
        doubted = await _doubted(signer, tenant, live) if live else []
        good = await _ask(db, signer, tenant, doubted) if doubted else []
        renewed += good
        known = {key.key_id for key in good}
        foreign += [key.account for key in doubted if key.key_id not in known]
    foreign += await _foreign_vaults(db, signer, tenant)
    async with db.read(tenant) as session:
        misdirected = await pool.list_misdirected(session)
    return Inspection(
        keys=seen,
        renewed=tuple(renewed),
        foreign=tuple(foreign),
        misdirected=tuple(account for _, account in misdirected),
    )


async def _page(db: Database, tenant: TenantId, after: str) -> Sequence[DepositKey]:
    async with db.read(tenant) as session:
        return await pool.list_keys(session, after, _PAGE)


async def _doubted(signer: KeyVoucher, tenant: TenantId, keys: Sequence[DepositKey]) -> list[DepositKey]:
    """Those that the known attester did not sign for; all where the signer has no key of the tenant. Computed off the loop."""
    try:
        attester = await attester_of(signer, tenant)
    except KeyNotVouchedFor:
        return list(keys)
    return await asyncio.to_thread(lambda: [key for key in keys if not is_trusted(tenant, key, attester)])


async def _ask(
    db: Database, signer: KeyVoucher, tenant: TenantId, keys: Sequence[DepositKey]
) -> list[DepositKey]:
    """Those of these keys that the signer vouches for now, with its word, which is kept."""
    words = await _words(signer, tenant, [key.key_id for key in keys])
    renewed = [
        replace(key, public_key=words[key.key_id][0], attestation=words[key.key_id][1])
        for key in keys
        if key.key_id in words and _is_same(key, words[key.key_id][0])
    ]
    async with db.unit_of_work(tenant) as uow:
        for key in renewed:
            await pool.keep_word(uow, key)
    return renewed


def _is_same(key: DepositKey, public_key: bytes) -> bool:
    """Whether the row's key and account are those of the signer's key."""
    return key.public_key in (None, public_key) and account_of_key(public_key) == key.account


async def _words(
    signer: KeyVoucher, tenant: TenantId, key_ids: Sequence[str]
) -> dict[str, tuple[bytes, bytes]]:
    """Public half and attestation of those of these keys that the signer knows. It refuses a question about any that it does
    not know, so the question is halved until those are found."""
    try:
        found = await signer.vouch_for(tenant, DEPOSIT, key_ids)
    except SignerRefused as refusal:
        if refusal.reason != "unknown_key":
            raise
        if len(key_ids) == 1:
            return {}
        half = len(key_ids) // 2
        first = await _words(signer, tenant, key_ids[:half])
        return first | await _words(signer, tenant, key_ids[half:])
    return {key.key_id: (key.public_key, key.attestation) for key in found}


async def _foreign_vaults(db: Database, signer: KeyVoucher, tenant: TenantId) -> list[str]:
    """Accounts of deposit vaults that have no row among the keys and are not the signer's."""
    foreign: list[str] = []
    after: VaultId | None = None
    while page := await _keyless(db, tenant, after):
        after = page[-1].id
        words = await _words(signer, tenant, list({vault.key_id for vault in page}))
        foreign += [
            vault.account
            for vault in page
            if vault.key_id not in words or account_of_key(words[vault.key_id][0]) != vault.account
        ]
    return foreign


async def _keyless(db: Database, tenant: TenantId, after: VaultId | None) -> Sequence[Vault]:
    async with db.read(tenant) as session:
        return await pool.list_keyless(session, after, _PAGE)
