"""Who gets where: every route and field of the API, tried as every kind of caller, against a table that people review."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.export import HERE
from custody.db.session import Database
from custody.identity import service as identity
from tests.integration.access_walk import walk
from tests.integration.api_harness import STRANGER, XLM, Harness, running

TABLE = Path(__file__).parent.parent / "golden" / "access_matrix.txt"
ROLES = ("viewer", "auditor", "operator", "approver", "treasurer", "compliance", "admin")


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def test_everybody_gets_exactly_where_the_table_says(api: Harness) -> None:
    """`make access` writes the table anew; its changes are reviewed like code."""
    for tenant in (api.tenant, api.other):
        asked = {"wallet_id": tenant.wallet, "asset": XLM.text, "amount": "10", "destination": STRANGER}
        answer = await api.http.post("/v1/withdrawals", json=asked, headers=api.headers(tenant=tenant))
        tenant.withdrawal = answer.json()["id"]
    found = await walk(api, await callers(api), json.loads((HERE / "openapi.json").read_text("utf-8")))
    if os.environ.get("CUSTODY_WRITE_ACCESS") == "1":
        TABLE.write_text(found, "utf-8")
    assert found == TABLE.read_text("utf-8")
    met = {line.rpartition("  ")[2] for line in found.splitlines()[1:]}
    assert met <= {"-", "404", "null", "empty", "nobody"}


async def callers(api: Harness) -> dict[str, str | None]:
    """A secret of each kind of caller."""
    who: dict[str, str | None] = {"nobody": None}
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        for role in ROLES:
            who[role] = (await identity.issue_api_key(uow, f"one-{role}", roles=(role,))).secret
        alone = await identity.issue_api_key(uow, "admin-robot", roles=("admin", "automation"))
    who["robot"] = alone.secret
    return who | {scope: api.tenant.keys[scope] for scope in ("read", "write", "approve", "operate")}
