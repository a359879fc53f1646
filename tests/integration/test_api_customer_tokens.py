"""A wallet's end user sees one customer and no other: by row-level security, whatever the route or the query asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from custody.db.session import Database
from custody.kernel.ids import CustomerId, TenantId, VaultId, WalletId, new_uuid, parse_id, show_id
from custody.wallets import service as wallets
from tests.integration.api_harness import FUNDS, STRANGER, XLM, Harness, fund, running
from tests.postgres import Cluster

SEEN_BY_CUSTOMERS = {
    "customer_events", "customers", "deposit_addresses", "deposit_keys", "deposits", "ledger_accounts", "ledger_batches",
    "ledger_commands", "ledger_transfers", "wallets", "withdrawal_attempts", "withdrawals",
}  # fmt: skip
"""Tables that are opened to customers, each row by row. No other may ever show one a row."""
TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
 WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND NOT c.relispartition ORDER BY 1
"""
STATEMENTS = """
SELECT count(*) FROM ledger_accounts a, LATERAL ledger_statement(a.tenant_id, a.id, 0, 100) AS e
"""
EVERYTHING = """{
  customers { edges { node { id name } } }
  wallets { edges { node { id balances { available } addresses { account } } } }
  transfers { edges { node { id source { id } destination { id } } } }
  withdrawals { edges { node { id wallet { id } attempts { number } } } }
  deposits { edges { node { id } } }
}"""


@dataclass(kw_only=True)
class Stage:
    """Two customers of one tenant who paid each other."""

    api: Harness
    token: str
    """Ada's: may ask for transfers and withdrawals."""
    looking: str
    """Ada's: may only look."""
    wallet: str
    bobs: str
    """Bob's wallet."""
    bob: str

    async def get(self, path: str, token: str | None = None) -> httpx.Response:
        """A read as Ada."""
        return await self.api.http.get(path, headers={"Authorization": f"Bearer {token or self.token}"})

    async def post(self, path: str, body: object = None, token: str | None = None) -> httpx.Response:
        """A command as Ada."""
        headers = {"Authorization": f"Bearer {token or self.token}", "Idempotency-Key": uuid4().hex}
        return await self.api.http.post(path, json=body, headers=headers)


@pytest.fixture(scope="module")
async def stage(cluster: Cluster) -> AsyncIterator[Stage]:
    name = await cluster.create()
    database = Database(cluster.dsn(name, "custody_app"), pool_size=10)
    async with running(database) as api:
        bob, bobs = CustomerId(new_uuid()), WalletId(new_uuid())
        async with database.unit_of_work(api.tenant.id) as uow:
            await wallets.create_customer(uow, "test", bob, name="Bob", external_ref="bob")
            await wallets.create_wallet(uow, "test", bobs, bob, "bob's")
            await fund(uow, bobs, VaultId(parse_id("vlt", api.tenant.vault)), XLM)
        made = Stage(
            api=api,
            token="",
            looking="",
            wallet=api.tenant.wallet,
            bobs=show_id("wal", bobs),
            bob=show_id("cus", bob),
        )
        path = f"/v1/customers/{api.tenant.customer}/tokens"
        acts = ["transfers:request", "withdrawals:request", "withdrawals:cancel"]
        made.token = (await api.post(path, {"permissions": acts})).json()["token"]
        made.looking = (await api.post(path, {})).json()["token"]
        for sender, receiver in ((made.wallet, made.bobs), (made.bobs, made.wallet)):
            await api.post("/v1/transfers", transfer(sender, receiver))
        for wallet in (made.wallet, made.bobs):
            assert (await api.post("/v1/withdrawals", withdrawal(wallet))).status_code == 201
        yield made
    await database.close()
    await cluster.drop(name)


def transfer(sender: str, receiver: str) -> dict[str, Any]:
    return {"from_wallet_id": sender, "to_wallet_id": receiver, "asset": XLM.text, "amount": "5", "fee": "1"}


def withdrawal(wallet: str) -> dict[str, Any]:
    return {"wallet_id": wallet, "asset": XLM.text, "amount": "7", "destination": STRANGER}


async def test_a_customer_sees_its_own_and_nothing_of_others(stage: Stage) -> None:
    me = (await stage.get("/v1/me")).json()
    assert (me["kind"], me["customer_id"]) == ("customer", stage.api.tenant.customer)
    balances = (await stage.get(f"/v1/wallets/{stage.wallet}/balances")).json()["data"]
    assert balances[0]["posted"] == str(FUNDS - 1)
    assert [row["id"] for row in (await stage.get("/v1/customers")).json()["data"]] == [
        stage.api.tenant.customer
    ]
    for path in (
        f"/v1/wallets/{stage.bobs}",
        f"/v1/wallets/{stage.bobs}/balances",
        f"/v1/customers/{stage.bob}",
    ):
        assert (await stage.get(path)).status_code == 404, path
    sent = (await stage.get("/v1/transfers")).json()["data"]
    assert [(row["from_wallet_id"] == stage.wallet, row["fee"] is None) for row in sent] == [
        (False, True),
        (True, False),
    ]
    assert (await stage.get(f"/v1/transfers/{sent[0]['id']}")).json() == sent[0]
    mine = (await stage.get("/v1/withdrawals")).json()["data"]
    assert [row["wallet_id"] for row in mine] == [stage.wallet]
    assert (await stage.get(f"/v1/withdrawals/{mine[0]['id']}")).status_code == 200
    theirs = [
        row
        for row in (await stage.api.get("/v1/withdrawals")).json()["data"]
        if row["wallet_id"] == stage.bobs
    ]
    assert (await stage.get(f"/v1/withdrawals/{theirs[0]['id']}")).status_code == 404
    refused = await stage.post(f"/v1/withdrawals/{theirs[0]['id']}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (404, "unknown_withdrawal")


async def test_the_graph_shows_a_customer_the_same(stage: Stage) -> None:
    data = (await stage.post("/graphql", {"query": EVERYTHING})).json()
    assert "errors" not in data, data
    nodes = {name: [edge["node"] for edge in found["edges"]] for name, found in data["data"].items()}
    assert [row["id"] for row in nodes["customers"]] == [stage.api.tenant.customer]
    assert {row["id"] for row in nodes["wallets"]} == {stage.wallet, stage.api.tenant.empty_wallet}
    shown = [(row["source"], row["destination"]) for row in nodes["transfers"]]
    assert shown == [(None, {"id": stage.wallet}), ({"id": stage.wallet}, None)]
    assert [row["wallet"]["id"] for row in nodes["withdrawals"]] == [stage.wallet]
    node = "query ($id: ID!) { node(id: $id) { id } }"
    answer = (await stage.post("/graphql", {"query": node, "variables": {"id": stage.bobs}})).json()
    assert answer["data"] == {"node": None}
    approvals = "{ withdrawals { edges { node { approvals { approver } } } } }"
    answer = (await stage.post("/graphql", {"query": approvals})).json()
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"missing_scope"}


async def test_a_customer_spends_from_its_own_wallets_where_its_token_says_so(stage: Stage) -> None:
    for body, path in (
        (transfer(stage.wallet, stage.bobs), "/v1/transfers"),
        (withdrawal(stage.wallet), "/v1/withdrawals"),
    ):
        assert (await stage.post(path, body, stage.looking)).json()["code"] == "missing_scope"
        assert (await stage.post(path, body)).status_code == 201
    for body, path in (
        (transfer(stage.bobs, stage.wallet), "/v1/transfers"),
        (withdrawal(stage.bobs), "/v1/withdrawals"),
    ):
        refused = await stage.post(path, body)
        assert (refused.status_code, refused.json()["code"]) == (404, "unknown_wallet")
    assert (await stage.post("/v1/transfers/bulk", {"transfers": []})).status_code == 403


async def test_no_other_table_shows_a_customer_anything_and_none_takes_a_row(stage: Stage) -> None:
    """Whatever table comes: one that nobody opened to customers shows them nothing."""
    database = stage.api.app.db
    customer = CustomerId(parse_id("cus", stage.api.tenant.customer))
    async with database.read(stage.api.tenant.id, customer) as session:
        seen = set()
        for name in (await session.conn.execute(text(TABLES))).scalars().all():
            if (await session.conn.execute(text(f"SELECT count(*) FROM {name}"))).scalar_one():
                seen.add(name)
        lines = (await session.conn.execute(text(STATEMENTS))).scalar_one()
    assert seen <= SEEN_BY_CUSTOMERS
    assert lines >= 4
    assert {"customers", "wallets", "ledger_accounts", "ledger_transfers", "withdrawals"} <= seen
    with pytest.raises(DBAPIError, match="row-level security"):
        await write_as(database, stage.api.tenant.id, customer)


async def write_as(database: Database, tenant: TenantId, customer: CustomerId) -> None:
    """Try to give a customer another wallet, as the customer."""
    async with database.unit_of_work(None) as uow:
        await uow.see_as(tenant, customer)
        await uow.conn.execute(
            text("INSERT INTO wallets (tenant_id, id, customer_id, name) VALUES (:t, :i, :c, 'x')"),
            {"t": tenant, "i": new_uuid(), "c": customer},
        )


async def test_ended_tokens_are_nobodys(stage: Stage) -> None:
    path = f"/v1/customers/{stage.bob}/tokens"
    token = (await stage.api.post(path, {"expires_in_s": 60}, key="bob")).json()["token"]
    assert (await stage.api.post(path, {"expires_in_s": 60}, key="bob")).json()["token"] is None
    assert (await stage.get("/v1/me", token)).status_code == 200
    assert (await stage.api.post(f"{path}/revoke", {})).json()["ended"] == 1
    assert (await stage.get("/v1/me", token)).status_code == 401
    other = f"/v1/customers/{stage.api.other.customer}/tokens"
    assert (await stage.api.post(other, {})).status_code == 404
