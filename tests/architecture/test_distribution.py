"""The schema stays one that can be distributed by tenant (ADR 0013): keys, references and statements all carry the tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event

from custody.address_book import service as address_book
from custody.db.session import Database
from custody.deposits import service as deposits
from custody.events.relay import relay
from custody.kernel.ids import TenantId
from custody.ledger import history, postings
from custody.ledger import service as ledger
from custody.ledger.model import AccountKind
from custody.screening import service as screening
from custody.seals import disclosure, execution, publication, service
from custody.signing.checkpoints import message_of
from custody.wallets import service as wallets
from custody.withdrawals import cooling
from custody.withdrawals import service as withdrawals
from tests.architecture.statements import find_untenanted
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.withdrawal_world import ETH, STELLAR, VAULT_ACCOUNT, WALLET, XLM, World

CROSSING = {
    "find_access_token": "a secret is looked up before its tenant is known",
    "find_api_key": "a secret is looked up before its tenant is known",
    "find_bank_account": "a bank's callback does not know the tenant",
    "find_issuer": "a token names its issuer before its tenant is known",
    "find_oauth_client": "a client names itself before its tenant is known",
    "find_vaults": "a block names addresses of any tenant",
    "list_vaults": "a chain is surveyed for all tenants at once",
}
"""Functions that ask all tenants at once, and why: distributed, each is one question to every shard."""
CROSSING_KEYS = {
    "access_tokens": "a secret is one principal's in the whole installation",
    "api_keys": "a secret is one principal's in the whole installation",
    "bank_accounts": "an account at a bank belongs to one tenant",
    "deposit_keys": "an address on all EVM chains belongs to one tenant",
    "identity_issuers": "an issuer and an audience name one tenant",
    "oauth_clients": "a client's id names one tenant",
    "vaults": "an account on a chain belongs to one tenant",
}
"""Tables with a unique key over all tenants, and why: distributed, the key's table stays on the coordinator beside the shards."""

UNIQUE_KEYS = """
SELECT c.relname AS name, i.indexrelid::regclass::text AS key,
       (SELECT array_agg(a.attname ORDER BY k.n) FROM unnest(i.indkey[:i.indnkeyatts - 1]) WITH ORDINALITY AS k(number, n)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number) AS columns
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND (i.indisunique OR i.indisexclusion)
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
 ORDER BY 1, 2
"""
REFERENCES = """
SELECT c.conname AS name, c.conrelid::regclass::text AS source, c.confrelid::regclass::text AS target,
       (SELECT array_agg(s.attname || '=' || t.attname)
          FROM unnest(c.conkey, c.confkey) AS k(here, there)
          JOIN pg_attribute s ON s.attrelid = c.conrelid AND s.attnum = k.here
          JOIN pg_attribute t ON t.attrelid = c.confrelid AND t.attnum = k.there) AS pairs
  FROM pg_constraint c
 WHERE c.contype = 'f' AND c.connamespace = 'public'::regnamespace
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.conrelid AND a.attname = 'tenant_id')
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.confrelid AND a.attname = 'tenant_id')
 ORDER BY 1
"""
RELATIONS = """
SELECT c.relname AS name, c.relkind = 'v' AS is_view, pg_get_viewdef(c.oid) AS text FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
   AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')
"""
FUNCTIONS = """
SELECT p.proname AS name, pg_get_functiondef(p.oid) AS text FROM pg_proc p
 WHERE p.pronamespace = 'public'::regnamespace AND p.prokind IN ('f', 'p') ORDER BY 1
"""


@pytest.fixture
async def connection(admin_dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    opened = await asyncpg.connect(admin_dsn)
    yield opened
    await opened.close()


async def loose_keys(connection: asyncpg.Connection[Any]) -> list[tuple[str, str]]:
    """Unique keys of tenants' tables and of their partitions that do not begin with the tenant."""
    keys = await connection.fetch(UNIQUE_KEYS)
    return [(key["name"], key["key"]) for key in keys if (key["columns"] or [""])[0] != "tenant_id"]


async def loose_references(connection: asyncpg.Connection[Any]) -> list[str]:
    """Foreign keys between tenants' tables that could lead to another tenant."""
    references = await connection.fetch(REFERENCES)
    return [each["name"] for each in references if "tenant_id=tenant_id" not in each["pairs"]]


async def loose_functions(connection: asyncpg.Connection[Any]) -> dict[str, list[str]]:
    """Functions with the tables that they touch without naming a tenant."""
    tables = {row["name"] for row in await connection.fetch(RELATIONS)}
    functions = await connection.fetch(FUNCTIONS)
    judged = {each["name"]: find_untenanted(each["text"], tables) for each in functions}
    return {name: found for name, found in judged.items() if found}


async def loose_views(connection: asyncpg.Connection[Any]) -> dict[str, list[str]]:
    """Views with the tables whose tenant they neither compare nor show."""
    relations = await connection.fetch(RELATIONS)
    tables = {row["name"] for row in relations}
    judged = {
        row["name"]: find_untenanted(row["text"], tables, output=True) for row in relations if row["is_view"]
    }
    return {name: found for name, found in judged.items() if found}


async def test_every_unique_key_begins_with_the_tenant(connection: asyncpg.Connection[Any]) -> None:
    assert len(await connection.fetch(UNIQUE_KEYS)) > 30
    assert {name for name, _ in await loose_keys(connection)} == set(CROSSING_KEYS)


async def test_every_reference_between_tenants_tables_carries_the_tenant(
    connection: asyncpg.Connection[Any],
) -> None:
    assert len(await connection.fetch(REFERENCES)) > 3
    assert await loose_references(connection) == []


async def test_functions_and_views_of_the_database_name_the_tenant(
    connection: asyncpg.Connection[Any],
) -> None:
    names = {row["name"] for row in await connection.fetch(FUNCTIONS)}
    assert {"ledger_post", "ledger_apply", "ledger_balance_at"} <= names
    assert set(await loose_functions(connection)) == set(CROSSING)
    assert await loose_views(connection) == {}


PLANTED_PARTITION = """
CREATE TABLE planted (tenant_id int, batch bigint, at int) PARTITION BY RANGE (at);
CREATE TABLE planted_1 PARTITION OF planted FOR VALUES FROM (1) TO (2);
CREATE UNIQUE INDEX ON planted_1 (batch, tenant_id)
"""
PLANTED_REFERENCE = """
CREATE UNIQUE INDEX other ON vaults (id);
ALTER TABLE wallets ADD COLUMN vault uuid CONSTRAINT planted REFERENCES vaults (id)
"""
PLANTED_FUNCTION = """
CREATE FUNCTION planted(n int) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
  RETURN (SELECT count(*) FROM ledger_accounts a JOIN ledger_holds h ON h.id = a.id WHERE a.tenant_id = n);
END $$
"""
PLANTED_VIEW = """
CREATE VIEW planted AS SELECT w.id, w.tenant_id FROM wallets w JOIN customers c ON c.id = w.customer_id
"""


@pytest.mark.parametrize(
    ("planted", "check", "named"),
    [
        ("CREATE UNIQUE INDEX planted ON deposits (tx_hash, tenant_id)", loose_keys, "deposits"),
        ("ALTER TABLE withdrawals ADD CONSTRAINT planted UNIQUE (digest)", loose_keys, "withdrawals"),
        ("ALTER TABLE payouts ADD CONSTRAINT planted EXCLUDE (id WITH =)", loose_keys, "payouts"),
        (PLANTED_PARTITION, loose_keys, "planted_1"),
        (PLANTED_REFERENCE, loose_references, "planted"),
        (PLANTED_FUNCTION, loose_functions, "planted"),
        (PLANTED_VIEW, loose_views, "planted"),
    ],
)
async def test_a_planted_violation_is_found(
    connection: asyncpg.Connection[Any], planted: str, check: Any, named: str
) -> None:
    before = str(await check(connection))
    await connection.execute(planted)
    assert f"'{named}'" not in before
    assert f"'{named}'" in str(await check(connection))


# --- statements of the stores -------------------------------------------------------------------------------------------


@contextmanager
def listening(database: Database) -> Iterator[set[str]]:
    """The statements that the product sends in the meantime."""
    said: set[str] = set()

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        said.add(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    yield said
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)


async def walk(world: World, desk: CheckpointDesk) -> None:
    """Money in, money out, seals, proofs and every way of reading the ledger: the hot path and what follows it."""
    await world.open()
    for asset in (XLM, ETH):
        made = await world.request(asset, approve=("alice", "bob"))
        await world.advance(made)
        await world.ingest(asset.chain)
        await world.view(made)
    held = await world.request(XLM)
    far = datetime.now(UTC) + timedelta(days=400)
    account = postings.wallet_account(WALLET, XLM)
    async with world.db.unit_of_work(world.tenant) as uow:
        await withdrawals.cancel(uow, world.principal, held.id)
        await withdrawals.expire_due(uow, far)
        await withdrawals.due(uow)
        await withdrawals.list_withdrawals(uow, held.id, wallet_id=WALLET)
        await deposits.find_final(uow, STELLAR, 10**6)
        await deposits.list_deposits(uow, wallet_id=WALLET)
        await wallets.list_addresses(uow, WALLET)
        await wallets.list_vaults(uow, STELLAR)
        await wallets.find_vaults(uow, STELLAR, [VAULT_ACCOUNT[STELLAR]])
        await screening.refuse(uow, "olga", STELLAR, VAULT_ACCOUNT[STELLAR], source="test")
        await screening.list_entries(uow)
        await cooling.set_rule(uow, "olga", "*", amount_min=0, seconds=60)
        await cooling.has_cooled(uow, held)
        await address_book.restrict(uow, "olga", "wallet", WALLET, enabled=True, wait_s=0)
        await address_book.list_entries(uow)
        await address_book.list_restrictions(uow)
    async with world.db.read(world.tenant) as session:
        await ledger.statement(session, account, 0, 10)
        await ledger.balance_at(session, account, far)
        await ledger.balance_at_effective(session, account, far)
        await ledger.trial_balance(session)
        await history.balances_of(session, AccountKind.WALLET, [WALLET])
    await relay(world.db, _NoWaker(), world.tenant)
    await execution.seal_and_sign(world.db, desk, world.tenant)
    await execution.publish_due(world.db, world.tenant, timedelta(0))
    async with world.db.unit_of_work(world.tenant) as uow:
        await disclosure.publish_liabilities(uow, "test")
    async with world.db.read(world.tenant) as session:
        await service.verify(session, message_of, None)
        await publication.list_own_proofs(session, WALLET)


class _NoWaker:
    async def wake(self, job: str, tenant: TenantId, object_id: Any, trace_id: str | None = None) -> None:
        """Nobody is woken."""


async def test_every_statement_of_the_walk_names_the_tenant(
    database: Database, tenant: TenantId, connection: asyncpg.Connection[Any], tmp_path: Path
) -> None:
    tables = {row["name"] for row in await connection.fetch(RELATIONS)}
    desk = CheckpointDesk(tmp_path)
    with listening(database) as said:
        await walk(World(db=database, tenant=tenant), desk)
    desk.close()
    touching = [each for each in said if any(table in each for table in tables)]
    assert len(touching) > 60
    assert {each: found for each in touching if (found := find_untenanted(each, tables))} == {}


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM wallets",
        "SELECT * FROM wallets w WHERE w.id = $1",
        "SELECT * FROM wallets, vaults WHERE wallets.tenant_id = $1",
        "SELECT * FROM wallets w JOIN vaults v ON v.id = w.id WHERE w.tenant_id = $1",
        "SELECT * FROM wallets w WHERE w.tenant_id = $1 AND EXISTS (SELECT FROM vaults v WHERE v.id = w.id)",
        "SELECT tenant_id FROM wallets -- WHERE tenant_id = 1",
        "SELECT id FROM wallets WHERE name = 'tenant_id = 1'",
        "SELECT id FROM wallets WHERE tenant_id = $1 UNION ALL SELECT id FROM vaults",
        "WITH x AS (SELECT id FROM wallets) SELECT * FROM vaults WHERE vaults.tenant_id = $1",
        "UPDATE wallets SET name = $1 WHERE id = $2",
        "DELETE FROM wallets USING vaults v WHERE v.tenant_id = $1",
        "INSERT INTO wallets (id, name) VALUES ($1, $2)",
        "INSERT INTO wallets SELECT * FROM vaults WHERE tenant_id = $1",
        "SELECT x.id FROM unnest($1) AS x(id), LATERAL (SELECT w.* FROM wallets w WHERE w.id = x.id LIMIT 1) AS o",
        "SELECT 1; SELECT id FROM wallets; SELECT id FROM vaults WHERE tenant_id = $1",
    ],
)
def test_a_statement_without_the_tenant_is_found(statement: str) -> None:
    assert find_untenanted(statement, {"wallets", "vaults"})


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM wallets WHERE tenant_id = $1",
        'SELECT * FROM "wallets" WHERE "wallets"."tenant_id" = $1',
        "SELECT * FROM wallets AS w JOIN vaults v ON (v.tenant_id = w.tenant_id AND v.id = w.id) WHERE w.tenant_id = $1",
        "SELECT * FROM assets",
        "INSERT INTO wallets (tenant_id, id) SELECT $1, x.id FROM unnest($2) AS x(id)",
        "SELECT x.id FROM unnest($1) AS x(id), LATERAL (SELECT w.* FROM wallets w WHERE w.tenant_id = $2 AND w.id = x.id) AS o",
        "UPDATE wallets w SET name = x.name FROM unnest($1) AS x(name) WHERE w.tenant_id = $2",
    ],
)
def test_a_statement_with_the_tenant_passes(statement: str) -> None:
    assert find_untenanted(statement, {"wallets", "vaults"}) == []
