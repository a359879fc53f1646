"""The pool of keys for deposit addresses: the steps around the signer, which makes keys and says which are its own.

A batch is written and committed, then the signer is asked (no transaction open), then its keys are stored together. Each step may
be repeated: one batch is under way at a time, the signer answers its id with the same keys, and they are stored once.

A row of the database is believed only as far as the signer has signed it (`key_check` has what is done where it has not).
"""

from __future__ import annotations

from custody.chains.evm.address import account_of_key
from custody.db.session import Database
from custody.deposits.ports import BatchMaker, KeyVoucher, Vouched
from custody.kernel.ids import TenantId
from custody.signing.attestations import is_vouched_for
from custody.signing.errors import SignerRefused
from custody.wallets import keys as pool
from custody.wallets.errors import KeyNotVouchedFor
from custody.wallets.keys import DEPOSIT
from custody.wallets.model import DepositKey, KeyBatch
from custody.wallets.transitions import DEPOSIT_KEYS

ACTOR = "worker"
"""Who the audit log names for batches: nobody asks for one."""


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
