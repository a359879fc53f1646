"""The pool of keys for deposit addresses: the steps around the signer, which makes keys and says which are its own.

A batch is written and committed, then the signer is asked (no transaction open), then its keys are stored together. Each step may
be repeated: one batch is under way at a time, the signer answers its id with the same keys, and they are stored once.

A row of the database is believed only as far as the signer has signed it. Where its signature is missing or is none of the
signer's present key, the signer itself is asked; where that does not know the key either, somebody else put it there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from custody.chains.evm.address import account_of_key
from custody.db.session import Database
from custody.deposits.ports import BatchMaker, KeyVoucher, Vouched
from custody.kernel.ids import TenantId, VaultId
from custody.signing.attestations import is_vouched_for
from custody.signing.errors import SignerRefused
from custody.wallets import keys as pool
from custody.wallets.errors import KeyNotVouchedFor
from custody.wallets.keys import DEPOSIT
from custody.wallets.model import DepositKey, KeyBatch
from custody.wallets.transitions import DEPOSIT_KEYS

ACTOR = "worker"
"""Who the audit log names for batches: nobody asks for one."""
_PAGE = 500


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


async def refill(
    db: Database, signer: BatchMaker, tenant: TenantId, *, low_water: int, batch_size: int
) -> int:
    """Fill the tenant's pool by one batch if fewer than `low_water` keys are free. Returns how many keys were added.

    Safe to run by several workers at once and to repeat after any failure. Raises SignerRefused where the signer's policy does
    not let them be made now; the same batch is asked for again by the next call.
    """
    async with db.unit_of_work(tenant) as uow:
        batch = await pool.next_batch(uow, low_water, batch_size)
    if batch is None:
        return 0
    try:
        made = await signer.create_keys(request_id=batch.id, tenant=tenant, purpose=DEPOSIT, count=batch.size)
    except SignerRefused as refusal:
        async with db.unit_of_work(tenant) as uow:
            await pool.note_refusal(uow, batch, refusal.reason)
        raise
    keys = [_new_key(batch, key) for key in made]
    async with db.unit_of_work(tenant) as uow:
        stored = await pool.store_batch(uow, ACTOR, batch, keys)
    return len(keys) if stored else 0


async def attester_of(signer: KeyVoucher, tenant: TenantId) -> bytes:
    """Public half of the key that vouches for the tenant's keys. Raises KeyNotVouchedFor when the signer has none of its keys."""
    try:
        return await signer.attester(tenant)
    except SignerRefused as refusal:
        if refusal.reason != "unknown_key":
            raise
        raise KeyNotVouchedFor(tenant=tenant) from refusal


def is_trusted(tenant: TenantId, key: DepositKey, attester: bytes) -> bool:
    """Whether this attester's signature makes the row's key and account the signer's own. Pure."""
    if key.public_key is None or key.attestation is None:
        return False
    return account_of_key(key.public_key) == key.account and is_vouched_for(
        tenant,
        DEPOSIT,
        key_id=key.key_id,
        public_key=key.public_key,
        attestation=key.attestation,
        attester=attester,
    )


async def ask_again(db: Database, signer: KeyVoucher, tenant: TenantId, key: DepositKey) -> DepositKey:
    """Have the signer vouch for a key now, and keep its word. Raises KeyNotVouchedFor when it is not the signer's."""
    try:
        (word,) = await signer.vouch_for(tenant, DEPOSIT, [key.key_id])
    except SignerRefused as refusal:
        if refusal.reason != "unknown_key":
            raise
        raise KeyNotVouchedFor(key_id=key.key_id, account=key.account) from refusal
    found = replace(key, public_key=word.public_key, attestation=word.attestation)
    if (key.public_key or word.public_key) != word.public_key or account_of_key(
        word.public_key
    ) != key.account:
        raise KeyNotVouchedFor(key_id=key.key_id, account=key.account)
    async with db.unit_of_work(tenant) as uow:
        await pool.keep_word(uow, found)
    return found


async def inspect(db: Database, signer: KeyVoucher, tenant: TenantId) -> Inspection:
    """Look at every key of the tenant, given out or not. Keys that were set aside are passed over."""
    seen, renewed, foreign = 0, list[DepositKey](), list[str]()
    attester: bytes | None = None
    after = ""
    while page := await _page(db, tenant, after):
        after = page[-1].key_id
        for key in page:
            if key.state == DEPOSIT_KEYS.target_of("set_aside"):
                continue
            seen += 1
            try:
                attester = attester or await attester_of(signer, tenant)
                if is_trusted(tenant, key, attester):
                    continue
                renewed.append(await ask_again(db, signer, tenant, key))
            except KeyNotVouchedFor:
                foreign.append(key.account)
    foreign += await _foreign_vaults(db, signer, tenant)
    async with db.read(tenant) as session:
        misdirected = await pool.list_misdirected(session)
    return Inspection(
        keys=seen,
        renewed=tuple(renewed),
        foreign=tuple(foreign),
        misdirected=tuple(account for _, account in misdirected),
    )


async def _foreign_vaults(db: Database, signer: KeyVoucher, tenant: TenantId) -> list[str]:
    """Accounts of deposit vaults that have no row among the keys and are not the signer's."""
    foreign: list[str] = []
    after: VaultId | None = None
    while True:
        async with db.read(tenant) as session:
            page = await pool.list_keyless(session, after, _PAGE)
        if not page:
            return foreign
        after = page[-1].id
        for vault in page:
            try:
                (word,) = await signer.vouch_for(tenant, DEPOSIT, [vault.key_id])
            except SignerRefused as refusal:
                if refusal.reason != "unknown_key":
                    raise
                foreign.append(vault.account)
                continue
            if account_of_key(word.public_key) != vault.account:
                foreign.append(vault.account)


async def _page(db: Database, tenant: TenantId, after: str) -> Sequence[DepositKey]:
    async with db.read(tenant) as session:
        return await pool.list_keys(session, after, _PAGE)


def _new_key(batch: KeyBatch, key: Vouched) -> DepositKey:
    return DepositKey(
        key_id=key.key_id,
        account=account_of_key(key.public_key),
        public_key=key.public_key,
        attestation=key.attestation,
        state=DEPOSIT_KEYS.initial,
        wallet_id=None,
        batch_id=batch.id,
    )
