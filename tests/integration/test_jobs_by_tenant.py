"""What runs by itself does so tenant by tenant: no statement on a tenant's table is sent before its transaction names one."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, text

from custody.db.session import Database
from custody.events.relay import relay
from custody.identity.upkeep import Upkeep
from custody.webhooks import service as webhooks
from custody.worker import build_means, fill_pools, prepare_partitions, sweep
from tests.integration.api_harness import STRANGER, XLM, Harness, running

TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
 WHERE c.relkind IN ('r', 'p', 'v') AND c.relnamespace = 'public'::regnamespace
"""


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


@contextmanager
def watching(database: Database, tables: frozenset[str]) -> Iterator[tuple[list[str], set[str]]]:
    """Collects statements that name a tenant's table in a transaction without tenant, and the tenants that were named."""
    acting: set[int] = set()
    nameless: list[str] = []
    tenants: set[str] = set()
    engine = database.engine.sync_engine

    def begun(connection: Any) -> None:
        acting.discard(id(connection.connection.dbapi_connection))

    def told(connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        key = id(connection.connection.dbapi_connection)
        if "set_config('app.tenant'" in statement:
            acting.add(key)
            tenants.add(str(parameters[0]))
        elif key not in acting and tables & set(re.findall(r"\w+", statement)):
            nameless.append(statement)

    event.listen(engine, "begin", begun)
    event.listen(engine, "before_cursor_execute", told)
    try:
        yield nameless, tenants
    finally:
        event.remove(engine, "begin", begun)
        event.remove(engine, "before_cursor_execute", told)


async def test_the_workers_jobs_name_their_tenant_first(api: Harness) -> None:
    for tenant in (api.tenant, api.other):
        asked = {"wallet_id": tenant.wallet, "asset": XLM.text, "amount": "10", "destination": STRANGER}
        made = await api.http.post("/v1/withdrawals", json=asked, headers=api.headers(tenant=tenant))
        assert made.status_code == 201
    async with api.app.db.read(None) as session:
        tables = frozenset((await session.conn.execute(text(TABLES))).scalars())
    means = build_means(api.app)
    upkeep = Upkeep(api.app.db, api.app.clock.now)
    with watching(api.app.db, tables) as (nameless, tenants):
        await sweep(means)
        for tenant in (api.tenant.id, api.other.id):
            await relay(api.app.db, api.app.waker, tenant, webhooks.fan_out)
        await fill_pools(means, api.app.signer)
        await prepare_partitions(means)
        upkeep.note(await api.asgi.state.gate.identify(api.tenant.keys["all"]))
        await upkeep.flush()
        await upkeep.prune()
    assert nameless == []
    assert tenants == {str(api.tenant.id), str(api.other.id)}
    for tenant in (api.tenant, api.other):
        told = (await api.get("/v1/events", tenant=tenant, limit="100")).json()["data"]
        mine = {row["data"]["wallet_id"] for row in told if row["type"] == "withdrawal.requested"}
        assert {f"wal_{each.replace('-', '')}" for each in mine} == {tenant.wallet}
