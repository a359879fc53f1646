"""What `tests/postgres.py` promises: a test's database is as new, whatever the test before did to its own."""

from __future__ import annotations

import asyncpg
import pytest

from tests.postgres import APP_PASSWORD, Cluster

ROWS = "INSERT INTO tenants (name) VALUES ('acme')"


async def _used(cluster: Cluster, *statements: str) -> str:
    name = await cluster.create()
    connection = await asyncpg.connect(cluster.dsn(name))
    for statement in statements:
        await connection.execute(statement)
    await connection.close()
    await cluster.release(name)
    return name


async def test_a_database_that_got_rows_alone_is_given_to_the_next_test_without_them(
    cluster: Cluster,
) -> None:
    first = await _used(cluster, ROWS)
    again = await cluster.create()
    assert again == first
    connection = await asyncpg.connect(cluster.dsn(again))
    assert await connection.fetchval("SELECT count(*) FROM tenants") == 0
    assert await connection.fetchval("INSERT INTO tenants (name) VALUES ('new') RETURNING id") == 1
    await connection.close()
    await cluster.release(again)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE tenants ADD COLUMN colour text",
        "SET session_replication_role = replica; DROP TABLE webhook_deliveries CASCADE",
        "ALTER TABLE ledger_transfers DISABLE TRIGGER append_only_rows",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "GRANT DELETE ON tenants TO custody_app",
        "ALTER TABLE tenants NO FORCE ROW LEVEL SECURITY",
        "SET session_replication_role = replica; UPDATE ledger_chart SET path = path || 'x'",
    ],
)
async def test_a_database_that_was_changed_otherwise_is_dropped(cluster: Cluster, change: str) -> None:
    changed = await _used(cluster, change)
    again = await cluster.create()
    assert again != changed
    await cluster.release(again)


@pytest.mark.parametrize("setting", ["SET timezone = 'Asia/Tokyo'", "CONNECTION LIMIT 0"])
async def test_a_setting_of_the_database_does_not_reach_the_next_test(cluster: Cluster, setting: str) -> None:
    name = await cluster.create()
    connection = await asyncpg.connect(cluster.dsn(name))
    await connection.execute(f"ALTER DATABASE {name} {setting}")
    await connection.close()
    await cluster.release(name)
    assert await cluster.create() != name


async def test_who_is_still_connected_is_sent_away(cluster: Cluster) -> None:
    name = await cluster.create()
    left = await asyncpg.connect(cluster.dsn(name, "custody_app"), password=APP_PASSWORD)
    await cluster.release(name)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
        await left.fetchval("SELECT 1")
