"""An installation that has events already: they get their places in each tenant's feed, and the next ones go on from there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from custody.db.provision import alembic_config, create_roles
from custody.db.session import Database
from custody.events import feed, outbox
from custody.kernel.ids import TenantId
from tests.postgres import APP_PASSWORD, Cluster


@pytest.fixture
async def bare(cluster: Cluster) -> AsyncIterator[str]:
    """An empty database with the roles; its name."""
    name = "before_webhooks"
    admin = await asyncpg.connect(cluster.dsn("postgres"))
    await admin.execute(f"CREATE DATABASE {name}")
    await create_roles(cluster.dsn(name), APP_PASSWORD)
    yield name
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def test_events_of_the_past_get_places_tenant_by_tenant(cluster: Cluster, bare: str) -> None:
    config = alembic_config(cluster.dsn(bare))
    (ours,) = [
        r for r in ScriptDirectory.from_config(config).walk_revisions() if r.path.endswith("webhooks.py")
    ]
    await asyncio.to_thread(command.upgrade, config, str(ours.down_revision))
    admin = await asyncpg.connect(cluster.dsn(bare))
    for name in ("acme", "rival"):
        await admin.execute("INSERT INTO tenants (name) VALUES ($1)", name)
    first, second = (row["id"] for row in await admin.fetch("SELECT id FROM tenants ORDER BY id"))
    past = []
    for tenant, relayed in ((first, True), (second, True), (first, True), (first, False)):
        past.append(uuid4())
        await admin.execute(
            "INSERT INTO outbox (tenant_id, id, type, object_id, data, relayed_at) "
            "VALUES ($1, $2, 'transfer.posted', $2, '{}', CASE WHEN $3 THEN now() END)",
            tenant, past[-1], relayed,
        )  # fmt: skip
    await asyncio.to_thread(command.upgrade, config, ours.revision)
    forced = await admin.fetchval("SELECT relforcerowsecurity FROM pg_class WHERE oid = 'outbox'::regclass")
    assert forced
    await admin.close()
    database = Database(cluster.dsn(bare, "custody_app"), pool_size=2)
    found = {}
    for tenant in (TenantId(first), TenantId(second)):
        async with database.unit_of_work(tenant) as uow:
            await outbox.take_unrelayed(uow, 10)
            found[tenant] = [(e.position, e.id) for e in await feed.page(uow, after=0, types=(), limit=10)]
    await database.close()
    assert found == {first: [(1, past[0]), (2, past[2]), (3, past[3])], second: [(1, past[1])]}
