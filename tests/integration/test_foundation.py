"""The parts that everything else leans on: keys, assets, idempotency, outbox, audit, isolation by tenant."""

from __future__ import annotations

import asyncio
import hashlib

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from custody.assets import service as assets
from custody.assets.errors import AssetExistsDifferent, UnknownAsset
from custody.audit import service as audit
from custody.db.session import Database
from custody.events import outbox
from custody.events.errors import UnknownEvent
from custody.idempotency import service as idempotency
from custody.idempotency.errors import KeyReused
from custody.identity import service as identity
from custody.identity.errors import InvalidApiKey, UnknownScope
from custody.identity.model import Principal
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, new_uuid

USDC = parse_asset_id("stellar:devnet/USDC:GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN")


async def issue(database: Database, tenant: TenantId) -> Principal:
    async with database.unit_of_work(tenant) as uow:
        issued = await identity.issue_api_key(uow, "alice", ["read", "write"])
    return await identity.authenticate(database, issued.secret)


async def test_an_issued_key_authenticates_its_subject_and_scopes(
    database: Database, tenant: TenantId
) -> None:
    principal = await issue(database, tenant)
    assert (principal.tenant, principal.subject) == (tenant, "alice")
    assert principal.scopes == {"read", "write"}


@pytest.mark.parametrize("secret", ["", "ck_short", "ck_" + "A" * 43, "ck_" + "é" * 43])
async def test_an_unknown_key_is_refused(database: Database, secret: str) -> None:
    with pytest.raises(InvalidApiKey):
        await identity.authenticate(database, secret)


async def test_a_key_with_an_unknown_scope_is_not_issued(database: Database, tenant: TenantId) -> None:
    with pytest.raises(UnknownScope):
        async with database.unit_of_work(tenant) as uow:
            await identity.issue_api_key(uow, "alice", ["read", "root"])


async def test_listing_an_asset_twice_with_other_decimals_is_refused(database: Database) -> None:
    async with database.unit_of_work(None) as uow:
        first = await assets.register(uow, USDC, "USDC", 7)
        assert await assets.register(uow, USDC, "USDC", 7) == first
        with pytest.raises(AssetExistsDifferent):
            await assets.register(uow, USDC, "USDC", 6)


async def test_an_unlisted_asset_is_unknown(database: Database) -> None:
    async with database.read(None) as session:
        assert await assets.find(session, USDC) is None
        with pytest.raises(UnknownAsset):
            await assets.get(session, USDC)


async def test_twenty_callers_with_one_key_act_once(database: Database, tenant: TenantId) -> None:
    principal = await issue(database, tenant)
    fingerprint = hashlib.sha256(b"body").digest()
    acted = 0

    async def call() -> bytes:
        nonlocal acted
        async with database.unit_of_work(tenant) as uow:
            replay = await idempotency.begin(uow, principal, "key-1", fingerprint)
            if replay is not None:
                return replay.body
            acted += 1
            await asyncio.sleep(0)
            await idempotency.record(uow, principal, "key-1", fingerprint, 201, b"answer")
            return b"answer"

    answers = await asyncio.gather(*(call() for _ in range(20)))
    assert (acted, set(answers)) == (1, {b"answer"})


async def test_a_key_with_another_body_is_refused(database: Database, tenant: TenantId) -> None:
    principal = await issue(database, tenant)
    async with database.unit_of_work(tenant) as uow:
        await idempotency.record(uow, principal, "k", bytes(32), 201, b"")
    with pytest.raises(KeyReused):
        async with database.unit_of_work(tenant) as uow:
            await idempotency.begin(uow, principal, "k", b"\x01" * 32)


async def test_an_event_is_taken_once(database: Database, tenant: TenantId) -> None:
    subject = new_uuid()
    async with database.unit_of_work(tenant) as uow:
        await outbox.emit(uow, "deposit.credited", subject, {"amount": "1"})
        with pytest.raises(UnknownEvent):
            await outbox.emit(uow, "deposit.imagined", subject, {})

    async def take() -> int:
        async with database.unit_of_work(tenant) as uow:
            return len(await outbox.take_unrelayed(uow, 10))

    assert sum(await asyncio.gather(take(), take(), take())) == 1


async def test_the_audit_chain_verifies_and_shows_an_edit(
    database: Database, tenant: TenantId, admin_dsn: str
) -> None:
    async def act(number: int) -> None:
        async with database.unit_of_work(tenant) as uow:
            await audit.record(uow, "alice", "thing.change", new_uuid(), {"number": number, "word": "ü"})

    await asyncio.gather(*(act(number) for number in range(8)))
    async with database.read(tenant) as session:
        assert await audit.verify(session) == 8
    # Only a superuser who first switches the trigger off can edit; the chain still tells.
    superuser = await asyncpg.connect(admin_dsn)
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute("UPDATE audit_entries SET actor = 'mallory' WHERE sequence = 5")
    await superuser.close()
    async with database.read(tenant) as session:
        with pytest.raises(audit.AuditChainBroken, match="sequence=5"):
            await audit.verify(session)


async def test_a_transaction_that_acts_for_two_tenants_writes_into_both_audit_chains(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    """As ingestion does when one block moves the money of several; whom it acts for last makes no difference."""
    async with database.unit_of_work(tenant) as uow:
        await audit.record(uow, "ingestion", "thing.see", new_uuid(), {"number": 1})
        await uow.act_for(other_tenant)
        await audit.record(uow, "ingestion", "thing.see", new_uuid(), {"number": 2})
        await uow.act_for(tenant)
        await audit.record(uow, "ingestion", "thing.see", new_uuid(), {"number": 3})
        await uow.act_for(other_tenant)
    for each, numbers in ((tenant, [1, 3]), (other_tenant, [2])):
        async with database.read(each) as session:
            assert await audit.verify(session) == len(numbers)
            assert [entry.detail["number"] for entry in await audit.page(session, 0, 10)] == numbers


async def test_who_records_an_entry_keeps_nobody_from_recording_one(
    database: Database, tenant: TenantId
) -> None:
    """The audit chain is locked at the commit alone, so that no use case can wait for it while others wait for the use case."""
    async with asyncio.timeout(20), database.unit_of_work(tenant) as slow:
        await audit.record(slow, "alice", "thing.begin", new_uuid(), {})
        async with database.unit_of_work(tenant) as quick:
            await audit.record(quick, "bob", "thing.do", new_uuid(), {})
    async with database.read(tenant) as session:
        assert [each.actor for each in await audit.page(session, 0, 10)] == ["bob", "alice"]
        assert await audit.verify(session) == 2


@pytest.mark.parametrize("table", ["audit_entries", "idempotency_keys"])
@pytest.mark.parametrize("sql", ["UPDATE {} SET tenant_id = 1", "DELETE FROM {}", "TRUNCATE {}"])
async def test_history_cannot_be_changed_even_by_its_owner(
    database: Database, tenant: TenantId, admin_dsn: str, table: str, sql: str
) -> None:
    principal = await issue(database, tenant)
    async with database.unit_of_work(tenant) as uow:
        await audit.record(uow, "alice", "thing.change", new_uuid(), {})
        await idempotency.record(uow, principal, "k", bytes(32), 201, b"")
    connection = await asyncpg.connect(admin_dsn)
    with pytest.raises(asyncpg.PostgresError, match="is history"):
        await connection.execute(sql.format(table))
    await connection.close()
    with pytest.raises(DBAPIError, match="permission denied"):
        async with database.unit_of_work(tenant) as uow:
            await uow.conn.execute(text(sql.format(table)))


async def test_another_tenants_rows_are_invisible(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await audit.record(uow, "alice", "thing.change", new_uuid(), {})
    async with database.read(other_tenant) as session:
        assert await audit.page(session, 0, 10) == []
        rows = await session.conn.execute(text("SELECT count(*) FROM audit_entries"))
        assert rows.scalar_one() == 0


async def test_a_row_cannot_be_written_for_another_tenant(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.unit_of_work(tenant) as uow:
            await uow.conn.execute(
                text(
                    "INSERT INTO outbox (tenant_id, id, type, object_id, data) "
                    "VALUES (:t, gen_random_uuid(), 'deposit.credited', gen_random_uuid(), '{}')"
                ),
                {"t": other_tenant},
            )
