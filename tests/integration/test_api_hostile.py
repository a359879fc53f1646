"""A hostile client with a valid key: queries that multiply, and what it may learn or spoil for others."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from custody.db.session import Database
from custody.identity import service as identity
from custody.identity.errors import MalformedSubject
from custody.kernel.ids import CustomerId, WalletId, new_uuid, parse_id, show_id
from custody.wallets import service as wallets
from tests.commands import custody
from tests.integration.api_harness import Harness, running
from tests.integration.test_operator import CONFIGURATION

ROOT = Path(__file__).parent.parent.parent
NESTED = """{ wallets(first: 100) { edges { node { customer { wallets { customer { wallets { customer { wallets {
  id } } } } } } } } } }"""
FAN_OUT = """
from api.graphql.documents import Documents
from api.graphql.schema import build_core, build_schema

fragments = " ".join(f"fragment F{n} on Query {{ ...F{n + 1} ...F{n + 1} }}" for n in range(60))
document = "{ ...F0 } " + fragments + " fragment F60 on Query { chains { chain } }"
found = Documents(build_core(build_schema())).find(document, None)
print([error.message for error in found.errors])
"""


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


def test_fragments_that_multiply_are_refused_before_anything_follows_them() -> None:
    # A process of its own: without the limit it never ends.
    done = subprocess.run(
        [sys.executable, "-c", FAN_OUT], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.strip() == "['The document selects more than 1000 fields.']", done.stderr


async def test_lists_within_lists_end_at_a_budget(api: Harness) -> None:
    await add_wallets(api, CustomerId(parse_id("cus", api.tenant.customer)), 60)
    answer = await api.graphql(NESTED)
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"query_too_costly"}


async def test_customers_with_many_wallets_hide_no_others(api: Harness) -> None:
    customer = CustomerId(new_uuid())
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        await wallets.create_customer(uow, "test", customer, name="Late", external_ref="late")
    await add_wallets(api, CustomerId(parse_id("cus", api.tenant.customer)), 210)
    await add_wallets(api, customer, 1)
    answer = await api.graphql("{ customers { edges { node { id wallets { id } } } } }")
    shown = {
        edge["node"]["id"]: len(edge["node"]["wallets"]) for edge in answer["data"]["customers"]["edges"]
    }
    assert shown == {api.tenant.customer: 100, show_id("cus", customer): 1}


async def add_wallets(api: Harness, customer: CustomerId, count: int) -> None:
    """Wallets of this customer."""
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        for number in range(count):
            await wallets.create_wallet(uow, "test", WalletId(new_uuid()), customer, f"w{number}")


@pytest.mark.parametrize("subject", ["Ada Lovelace", "ada\n", "", "é", "a" * 65, "a/b"])
async def test_a_key_is_issued_only_to_a_subject_that_an_intent_can_name(api: Harness, subject: str) -> None:
    with pytest.raises(MalformedSubject):
        async with api.app.db.unit_of_work(api.tenant.id) as uow:
            await identity.issue_api_key(uow, subject, ["read"])


async def test_a_bank_account_needs_a_rail_that_is_configured(api: Harness) -> None:
    body = {"rail": "sandbix", "iban": "DE75512108001245126199", "asset": "fiat/EUR", "name": "Main"}
    answer = await api.post("/v1/bank-accounts", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_rail")
    assert answer.json()["errors"] == [{"pointer": "/rail", "code": "unknown_rail"}]
    assert (await api.post("/v1/bank-accounts", body | {"rail": "sandbox"})).status_code == 201


async def test_listing_an_asset_is_audited_once(api: Harness) -> None:
    body = {"id": "fiat/CHF", "code": "CHF", "decimals": 2}
    for _ in range(2):
        assert (await api.post("/v1/assets", body)).status_code == 201
    entries = (await api.get("/v1/audit-events", limit="100")).json()["data"]
    found = [entry for entry in entries if entry["action"] == "asset.register"]
    assert [(entry["actor"], entry["detail"]["asset"]) for entry in found] == [("acme-all", "fiat/CHF")]


async def test_issuing_a_key_is_audited_without_its_secret(
    api: Harness, app_dsn: str, tmp_path: Path
) -> None:
    configuration, out = tmp_path / "custody.toml", tmp_path / "key"
    configuration.write_text(CONFIGURATION.format(url=app_dsn))
    issue = ("tenants", "issue-key", "--tenant", str(api.tenant.id), "--scope", "read", "--out", str(out))
    done = await asyncio.to_thread(custody, configuration, *issue, "--subject", "new-app")
    assert done.returncode == 0, done.stderr
    entries = (await api.get("/v1/audit-events", limit="100")).json()["data"]
    entry = next(entry for entry in entries if entry["action"] == "api_key.issue")
    assert entry["detail"] == {"subject": "new-app", "scopes": ["read"]}
    secret = out.read_text().strip()
    assert secret not in json.dumps(entries) + done.stdout + done.stderr
