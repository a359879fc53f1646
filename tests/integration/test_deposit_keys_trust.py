"""A row of the pool is believed as far as the signer has signed it: what somebody else wrote into the database is given to
nobody, and is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
import coincurve
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import text

from custody.chains.evm.address import account_of_key
from custody.db.session import Database
from custody.deposits import key_check
from custody.deposits.key_check import Inspection
from custody.kernel.ids import TenantId, VaultId, WalletId, derived_uuid, new_uuid
from custody.signing.intent_fields import org_name
from custody.signing.model import VouchedKey
from custody.wallets import keys as pool
from custody.wallets import service as wallets
from custody.wallets.errors import KeyNotFree, KeyNotVouchedFor
from custody.wallets.model import Vault
from signer.protocol.attestation import attestation_message
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.ingestion_harness import Desk
from tests.integration.test_deposit_keys import BASE, EVM, address_of, desk, key_ids

__all__ = ["desk"]

STRANGER = coincurve.PrivateKey(b"\x07" * 32).public_key.format(compressed=False)
"""A key of somebody who can write to the database."""


Row = dict[str, Any]


def forged(desk: Desk, how: str, honest: VouchedKey, public: bytes = STRANGER) -> Row:
    """A row that somebody writes who has the database and not the signer."""
    mine = Ed25519PrivateKey.generate()
    key_id = derived_uuid("forged", how).hex
    message = attestation_message(org_name(desk.tenant), "deposit", bytes.fromhex(key_id), public)
    row: Row = {
        "key_id": key_id,
        "account": account_of_key(public),
        "public_key": public,
        "attestation": mine.sign(message),
    }
    match how:
        case "own signature":
            return row
        case "signature of an honest row":
            return {**row, "attestation": honest.attestation}
        case "honest key, own account":
            return {**row, "public_key": honest.public_key, "attestation": honest.attestation}
        case _:
            assert how == "id of an honest key"
            # A key of the signer's own that is not in this table: only its account is another.
            return {**row, "key_id": honest.key_id, "attestation": honest.attestation}


FORGERIES = ("own signature", "signature of an honest row", "honest key, own account", "id of an honest key")


async def test_a_row_that_the_signer_did_not_vouch_for_is_given_to_nobody(desk: Desk) -> None:
    held = await desk.keys.create_keys(
        request_id=new_uuid(), tenant=desk.tenant, purpose="deposit", count=len(FORGERIES)
    )
    for number, (how, honest) in enumerate(zip(FORGERIES, held, strict=True)):
        row = forged(desk, how, honest, strangers_key(number))
        await insert(desk.db, desk.tenant, row)
        ada = await desk.open_wallet(how)
        for _ in range(2):
            with pytest.raises(KeyNotVouchedFor) as caught:
                await address_of(desk, ada)
        assert caught.value.values["account"] == row["account"], how
        inspected = await key_check.inspect(desk.db, desk.keys, desk.tenant)
        assert inspected == Inspection(keys=number + 1, renewed=(), foreign=(row["account"],), misdirected=())
        async with desk.db.read(desk.tenant) as session:
            assert len(await wallets.list_vaults(session)) == number
        async with desk.db.unit_of_work(desk.tenant) as uow:
            await pool.set_aside(uow, "operator", row["key_id"], "not ours")
        await desk.fill_pool(low_water=1, batch_size=1)
        assert (await address_of(desk, ada)).account != row["account"]
        async with desk.db.unit_of_work(desk.tenant) as uow:
            with pytest.raises(KeyNotFree):
                await pool.set_aside(uow, "operator", row["key_id"], "again")
        async with desk.db.read(desk.tenant) as session:
            # Nor is anything watched there any more.
            assert await wallets.find_vaults(session, EVM, [row["account"]]) == []


def strangers_key(number: int) -> bytes:
    return coincurve.PrivateKey(bytes([7 + number]) * 32).public_key.format(compressed=False)


async def insert(db: Database, tenant: TenantId, row: Row) -> None:
    """Write a row as the product's own role may."""
    batch = new_uuid()
    async with db.unit_of_work(tenant) as uow:
        await uow.conn.execute(
            text("INSERT INTO deposit_key_batches (tenant_id, id, size, state) VALUES (:t, :b, 1, 'stored')"),
            {"t": tenant, "b": batch},
        )
        await uow.conn.execute(
            text(
                "INSERT INTO deposit_keys (tenant_id, key_id, account, public_key, attestation, batch_id, state) "
                "VALUES (:t, :key_id, :account, :public_key, :attestation, :b, 'free')"
            ),
            {"t": tenant, "b": batch, **row},
        )


async def test_another_tenants_key_does_not_pass(desk: Desk, other_tenant: TenantId) -> None:
    (theirs,) = await desk.keys.create_keys(
        request_id=new_uuid(), tenant=other_tenant, purpose="deposit", count=1
    )
    await desk.fill_pool()
    await move_aside(desk)
    row = {
        "key_id": theirs.key_id,
        "account": account_of_key(theirs.public_key),
        "public_key": theirs.public_key,
        "attestation": theirs.attestation,
    }
    await insert(desk.db, desk.tenant, row)
    with pytest.raises(KeyNotVouchedFor):
        await address_of(desk, await desk.open_wallet("ada"))


async def move_aside(desk: Desk) -> None:
    for key_id in await key_ids(desk):
        async with desk.db.unit_of_work(desk.tenant) as uow:
            await pool.set_aside(uow, "operator", key_id, "out of the way")


async def test_a_signer_without_a_key_of_the_tenant_vouches_for_none(desk: Desk) -> None:
    honest = FakeKeyMaker()
    (elsewhere,) = await honest.create_keys(
        request_id=new_uuid(), tenant=desk.tenant, purpose="deposit", count=1
    )
    await insert(desk.db, desk.tenant, forged(desk, "signature of an honest row", elsewhere))
    with pytest.raises(KeyNotVouchedFor):
        await address_of(desk, await desk.open_wallet("ada"))


async def test_keys_outlive_a_change_of_the_key_that_vouches(desk: Desk) -> None:
    await desk.fill_pool(batch_size=3)
    first = await address_of(desk, await desk.open_wallet("ada"))
    desk.keys.attesters.clear()
    ada = await desk.open_wallet("ada")
    assert (await address_of(desk, ada, BASE)).account == first.account
    await address_of(desk, await desk.open_wallet("bob"))
    inspected = await key_check.inspect(desk.db, desk.keys, desk.tenant)
    assert (inspected.keys, len(inspected.renewed), inspected.foreign) == (3, 1, ())
    again = await key_check.inspect(desk.db, desk.keys, desk.tenant)
    assert again == Inspection(keys=3, renewed=(), foreign=(), misdirected=())


async def test_an_address_from_before_there_was_a_pool_is_the_wallets_on_every_chain(
    desk: Desk, admin_dsn: str
) -> None:
    """As the migration leaves them: the wallet's oldest key has a row without the signer's word, a second one has none."""
    ada = await desk.open_wallet("ada")
    old, second = await desk.keys.create_keys(
        request_id=new_uuid(), tenant=desk.tenant, purpose="deposit", count=2
    )
    await install(desk, ada, [old, second])
    async with desk.db.unit_of_work(desk.tenant) as uow:
        await uow.conn.execute(
            text(
                "INSERT INTO deposit_keys (tenant_id, key_id, account, state, wallet_id) "
                "VALUES (:t, :k, :a, 'taken', :w)"
            ),
            {"t": desk.tenant, "k": old.key_id, "a": account_of_key(old.public_key), "w": ada},
        )
    there = await address_of(desk, ada, BASE)
    assert there.account == account_of_key(old.public_key)
    admin = await asyncpg.connect(admin_dsn)
    try:
        # It was told to people before that chain was looked at, so its history is read there.
        asked = await admin.fetch("SELECT chain, account FROM ingestion_backfills WHERE chain = $1", BASE)
        assert [tuple(row) for row in asked] == [(BASE, there.account)]
    finally:
        await admin.close()
    inspected = await key_check.inspect(desk.db, desk.keys, desk.tenant)
    assert inspected == Inspection(keys=1, renewed=(), foreign=(), misdirected=())
    await install(desk, ada, [VouchedKey(key_id="ff" * 16, public_key=STRANGER, attestation=b"")])
    inspected = await key_check.inspect(desk.db, desk.keys, desk.tenant)
    assert inspected.foreign == (account_of_key(STRANGER),)


async def install(desk: Desk, wallet: WalletId, held: Sequence[VouchedKey]) -> None:
    async with desk.db.unit_of_work(desk.tenant) as uow:
        for key in held:
            vault = Vault(
                id=VaultId(new_uuid()),
                chain=EVM,
                purpose="deposit",
                wallet_id=wallet,
                key_id=key.key_id,
                account=account_of_key(key.public_key),
            )
            await wallets.add_vault(uow, "test", vault)


async def test_an_address_that_was_changed_under_a_customers_name_is_found(
    desk: Desk, admin_dsn: str
) -> None:
    await desk.fill_pool(batch_size=3)
    ada, bob = await desk.open_wallet("ada"), await desk.open_wallet("bob")
    to_ada, to_bob = await address_of(desk, ada), await address_of(desk, bob)
    admin = await asyncpg.connect(admin_dsn)
    stranger = account_of_key(STRANGER)
    try:
        await admin.execute("UPDATE deposit_addresses SET address = $1 WHERE id = $2", stranger, to_ada.id)
        await admin.execute("UPDATE deposit_addresses SET wallet_id = $1 WHERE id = $2", ada, to_bob.id)
    finally:
        await admin.close()
    inspected = await key_check.inspect(desk.db, desk.keys, desk.tenant)
    assert sorted(inspected.misdirected) == sorted([stranger, to_bob.address])
