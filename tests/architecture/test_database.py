"""What the live database must refuse by itself, whatever the code does: judged on a freshly migrated Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from alembic import command

from custody.db.provision import alembic_config

APP = "custody_app"
CROSSED_BY_A_FUNCTION = {
    "access_tokens": "find_access_token looks a secret up before the tenant is known",
    "api_keys": "find_api_key looks a secret up before the tenant is known",
    "bank_accounts": "find_bank_account names the tenant of a bank's callback",
    "deposit_keys": "find_vaults names them on chains where they have no vault yet",
    "identity_issuers": "find_issuer names the tenant that trusts a token's issuer",
    "oauth_clients": "find_oauth_client looks a client up before the tenant is known",
    "vaults": "find_vaults names the tenants of a block's addresses, list_vaults those of all accounts",
}
"""Tables whose owner may read across tenants, through one SECURITY DEFINER function each; the application may not."""
SHARED = {
    "alembic_version": "the schema's version",
    "approval_policies": "a copy of the one signer's policy",
    "assets": "assets are facts of chains",
    "chain_halts": "a chain stops for all tenants",
    "chains_followed": "one worker follows a chain for all tenants",
    "ingestion_backfills": "ranges of a chain's blocks; they name accounts, nobody's money",
    "ingestion_blocks": "blocks are facts of chains",
    "ingestion_cursors": "one worker follows a chain for all tenants",
    "ingestion_notices": "what a person should see of a chain's blocks",
    "ingestion_notices_seen": "who has seen it",
    "ingestion_readings": "how blocks of a chain are read, for all tenants",
    "ingestion_reports": "what a chain's worker says of itself",
    "ingestion_surveys": "how far the survey over a chain's accounts is",
    "ledger_chart": "the chart of accounts is the same for all",
    "tenants": "the list of tenants",
}
"""Tables without tenant, and why."""
HISTORY = {
    "address_book_entries",
    "address_book_restrictions",
    "address_book_words",
    "approvals",
    "approval_policies",
    "assets",
    "audit_entries",
    "bulk_transfers",
    "chain_rewinds",
    "cool_down_rules",
    "customer_events",
    "exchange_reversals",
    "exchanges",
    "idempotency_keys",
    "identity_roles",
    "ingestion_notices",
    "ingestion_notices_seen",
    "ledger_anchors",
    "ledger_archives",
    "ledger_batches",
    "ledger_chart",
    "ledger_checkpoints",
    "ledger_commands",
    "ledger_liabilities",
    "ledger_openings",
    "ledger_sealed_batches",
    "ledger_seals",
    "ledger_transfers",
    "rail_observations",
    "receipts",
    "recon_breaks",
    "recon_runs",
    "refused_addresses",
    "screenings",
}
"""Tables in which nothing may ever change or vanish."""
TABLES = """
SELECT c.relname AS name, c.relrowsecurity AS rls, c.relforcerowsecurity AS forced, pg_get_userbyid(c.relowner) AS owner,
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id') AS has_tenant,
       (SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
         WHERE i.indrelid = c.oid AND i.indisprimary) AS key_head
  FROM pg_class c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
 ORDER BY c.relname
"""


@pytest.fixture
async def connection(admin_dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    opened = await asyncpg.connect(admin_dsn)
    yield opened
    await opened.close()


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
def test_migrations_give_the_tables_that_the_code_declares(admin_dsn: str) -> None:
    """Raises with every difference. The code's part is read by the migrations' `env.py`."""
    command.check(alembic_config(admin_dsn))


async def test_every_table_belongs_to_a_tenant_or_says_why_not(connection: asyncpg.Connection[Any]) -> None:
    tables = await connection.fetch(TABLES)
    assert {table["name"] for table in tables if not table["has_tenant"]} == set(SHARED)


async def test_tenant_comes_first_in_every_key(connection: asyncpg.Connection[Any]) -> None:
    tables = await connection.fetch(TABLES)
    assert [
        table["name"] for table in tables if table["has_tenant"] and table["key_head"] != "tenant_id"
    ] == []


async def test_rows_are_kept_apart_by_tenant(connection: asyncpg.Connection[Any]) -> None:
    tables = await connection.fetch(TABLES)
    assert [table["name"] for table in tables if table["has_tenant"] and not table["rls"]] == []
    unforced = {table["name"] for table in tables if table["has_tenant"] and not table["forced"]}
    assert unforced == set(CROSSED_BY_A_FUNCTION)
    policies = await connection.fetch(
        "SELECT polrelid::regclass::text, polqual IS NOT NULL, polwithcheck IS NOT NULL FROM pg_policy"
    )
    complete = {name for name, reads, writes in policies if reads and writes}
    assert {table["name"] for table in tables if table["has_tenant"]} - complete == set()


async def test_application_owns_nothing_and_removes_nothing(connection: asyncpg.Connection[Any]) -> None:
    tables = await connection.fetch(TABLES)
    assert {table["owner"] for table in tables} == {"custody_owner"}
    for table in tables:
        for privilege in ("DELETE", "TRUNCATE", "TRIGGER", "REFERENCES"):
            held = await connection.fetchval(
                "SELECT has_table_privilege($1, $2, $3)", APP, table["name"], privilege
            )
            assert not held, f"{APP} has {privilege} on {table['name']}"
    role = await connection.fetchrow(
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = $1", APP
    )
    assert role is not None
    assert not any(role)


async def test_history_refuses_every_change(connection: asyncpg.Connection[Any]) -> None:
    # pg_trigger.tgtype: 1 per row, 2 before, 8 delete, 16 update, 32 truncate. Source: catalog/pg_trigger.h
    rows = await connection.fetch(
        "SELECT tgrelid::regclass::text AS name, bit_or(tgtype::int) AS moments FROM pg_trigger "
        "WHERE tgfoid = 'refuse_change'::regproc AND tgenabled = 'O' AND tgtype & 2 = 2 GROUP BY 1"
    )
    guarded = {row["name"] for row in rows if row["moments"] & 56 == 56}
    assert HISTORY - guarded == set()
    for name in sorted(HISTORY):
        held = await connection.fetchval("SELECT has_any_column_privilege($1, $2, 'UPDATE')", APP, name)
        assert not held, f"{APP} may update {name}"
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute(f"TRUNCATE {name} CASCADE")


async def test_definer_functions_pin_their_search_path(connection: asyncpg.Connection[Any]) -> None:
    """A function with its owner's rights must not find a caller's tables first."""
    loose = await connection.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef "
        "AND NOT EXISTS (SELECT FROM unnest(proconfig) AS setting WHERE setting LIKE 'search_path=%pg_temp')"
    )
    assert [row["proname"] for row in loose] == []


async def test_application_sees_nothing_without_a_tenant(
    connection: asyncpg.Connection[Any], app_dsn: str
) -> None:
    tables = await connection.fetch(TABLES)
    app = await asyncpg.connect(app_dsn)
    try:
        for table in tables:
            if table["has_tenant"]:
                assert await app.fetchval(f"SELECT count(*) FROM {table['name']}") == 0
    finally:
        await app.close()
