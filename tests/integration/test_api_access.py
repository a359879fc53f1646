"""Who gets where: every route and field of the API, tried as every kind of caller, against a table that people review."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from api.export import HERE
from custody.db.session import Database
from custody.identity import people
from custody.identity import service as identity
from tests.fakes.authenticator import Authenticator
from tests.fakes.identity_provider import IdentityProvider, running_provider
from tests.integration.access_walk import walk
from tests.integration.api_harness import STRANGER, XLM, Harness, running
from tests.integration.test_api_identity import answer, issuer_of, post, roles

TABLE = Path(__file__).parent.parent / "golden" / "access_matrix.txt"
ROLES = ("viewer", "auditor", "operator", "approver", "treasurer", "compliance", "admin")


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with running_provider() as started:
        started.publish("ec", "ES256")
        yield started


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def test_everybody_gets_exactly_where_the_table_says(api: Harness, provider: IdentityProvider) -> None:
    """`make access` writes the table anew; its changes are reviewed like code."""
    for tenant in (api.tenant, api.other):
        asked = {"wallet_id": tenant.wallet, "asset": XLM.text, "amount": "10", "destination": STRANGER}
        answer = await api.http.post("/v1/withdrawals", json=asked, headers=api.headers(tenant=tenant))
        tenant.withdrawal = answer.json()["id"]
    found = await walk(
        api, await callers(api, provider), json.loads((HERE / "openapi.json").read_text("utf-8"))
    )
    if os.environ.get("CUSTODY_WRITE_ACCESS") == "1":
        TABLE.write_text(found, "utf-8")
    assert found == TABLE.read_text("utf-8")
    met = {line.rpartition("  ")[2] for line in found.splitlines()[1:]}
    assert met <= {"-", "404", "null", "empty", "nobody"}


async def boss(api: Harness, provider: IdentityProvider) -> str:
    """A person who administers, and has just confirmed with a passkey."""
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        await people.trust(uow, "operator:test", issuer_of(api, provider), plain_http=True)
    token = provider.token("boss", sid="here", amr=["hwk"], **roles("boss"))
    passkey = Authenticator(name="boss")
    assert (await post(api, token, "/v1/admin-passkeys", passkey.entry())).status_code == 201
    asked = (await post(api, token, "/v1/step-up/options")).json()
    assert (await answer(api, token, asked, passkey)).status_code == 200
    return token


async def callers(api: Harness, provider: IdentityProvider) -> dict[str, str | None]:
    """A secret of each kind of caller."""
    who: dict[str, str | None] = {"nobody": None}
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        for role in ROLES:
            who[role] = (await identity.issue_api_key(uow, f"one-{role}", roles=(role,))).secret
        alone = await identity.issue_api_key(uow, "admin-robot", roles=("admin", "automation"))
    who["robot"] = alone.secret
    token = await boss(api, provider)
    who["unsure"] = provider.token("boss", sid="elsewhere", **roles("boss"))
    who["boss"] = token
    path = f"/v1/customers/{api.tenant.customer}/tokens"
    who["customer"] = (await api.post(path, {})).json()["token"]
    acts = ["transfers:request", "withdrawals:request", "withdrawals:cancel"]
    who["spender"] = (await api.post(path, {"permissions": acts})).json()["token"]
    return who | {scope: api.tenant.keys[scope] for scope in ("read", "write", "approve", "operate")}
