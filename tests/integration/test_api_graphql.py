"""GraphQL over a real Postgres: what a custody app reads, what it costs, and what another tenant never sees."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event

from custody import worker
from custody.db.session import Database
from custody.deposits import service as deposits
from custody.deposits.model import ObservedTransfer
from custody.kernel.ids import VaultId, parse_id
from custody.wallets import service as wallets
from custody.wallets.model import VaultRef
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.finality import credit_final
from tests.integration.api_harness import FUNDS, STELLAR, STRANGER, XLM, Harness, running

WALLET = """
query ($id: ID!) { wallet(id: $id) {
  id name customer { id externalRef }
  balances { asset { id code } posted pendingIn pendingOut available decimals display }
} }
"""
WITHDRAWALS = """
query ($first: Int!, $after: String) { withdrawals(first: $first, after: $after) {
  edges { cursor node {
    id state amount { atomic display asset { code } } wallet { id customer { name } }
    approvals { approver decision } attempts { number state }
  } }
  pageInfo { hasNextPage endCursor }
} }
"""


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def test_a_wallet_shows_its_balances_with_decimals_and_text(api: Harness) -> None:
    await api.post("/v1/withdrawals", withdrawal(api, "1500"))
    answer = await api.graphql(WALLET, id=api.tenant.wallet)
    assert "errors" not in answer
    wallet = answer["data"]["wallet"]
    assert wallet["customer"] == {"id": api.tenant.customer, "externalRef": "ada-acme"}
    assert wallet["balances"] == [
        {
            "asset": {"id": XLM.text, "code": "XLM"},
            "posted": str(FUNDS),
            "pendingIn": "0",
            "pendingOut": "1500",
            "available": str(FUNDS - 1500),
            "decimals": 7,
            "display": "99.9998500",
        }
    ]


@pytest.mark.parametrize(
    "fields",
    [
        "withdrawals(first: 0) { edges { node { id } } } wallet(id: $id) { balances { posted } } assets { id }",
        "wallet(id: $id) { balances { posted } } assets { id } withdrawals(first: 0) { edges { node { id } } }",
    ],
)
async def test_a_wrong_argument_is_the_callers_error_whatever_else_is_asked(
    api: Harness, fields: str
) -> None:
    """Siblings of the failed field were still reading when the transaction ended; the answer was 500 or 503."""
    for _ in range(3):
        answer = await api.graphql(f"query ($id: ID!) {{ {fields} }}", id=api.tenant.wallet)
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["bad_page_size"]
        assert answer["data"] is None


async def test_another_tenants_objects_are_null(api: Harness) -> None:
    asked = (await api.post("/v1/withdrawals", withdrawal(api, "1"))).json()
    query = """query ($c: ID!, $w: ID!, $r: ID!) {
      customer(id: $c) { id } wallet(id: $w) { id } withdrawal(id: $r) { id }
      a: node(id: $c) { id } b: node(id: $w) { id } d: node(id: $r) { id }
      withdrawals { edges { node { id } } } transfers { edges { node { id } } }
    }"""
    named = {"c": api.tenant.customer, "w": api.tenant.wallet, "r": asked["id"]}
    mine = (await api.graphql(query, **named))["data"]
    theirs = (await api.graphql(query, tenant=api.other, **named))["data"]
    assert [mine[name] for name in ("customer", "wallet", "withdrawal")] == [mine[name] for name in "abd"]
    assert [theirs[name] for name in ("customer", "wallet", "withdrawal", "a", "b", "d")] == [None] * 6
    assert theirs["withdrawals"]["edges"] == []


async def test_withdrawals_come_in_pages_with_a_fixed_number_of_statements(api: Harness) -> None:
    for amount in range(1, 8):
        await api.post("/v1/withdrawals", withdrawal(api, str(amount)))
    few, few_statements = await counted(api, WITHDRAWALS, first=2)
    many, many_statements = await counted(api, WITHDRAWALS, first=7)
    assert many_statements == few_statements
    page = few["data"]["withdrawals"]
    assert page["pageInfo"]["hasNextPage"] is True
    rest = await api.graphql(WITHDRAWALS, first=100, after=page["pageInfo"]["endCursor"])
    seen = [edge["node"]["amount"]["atomic"] for edge in page["edges"] + rest["data"]["withdrawals"]["edges"]]
    assert seen == [str(amount) for amount in range(1, 8)]
    assert rest["data"]["withdrawals"]["pageInfo"]["hasNextPage"] is False
    assert {edge["node"]["wallet"]["customer"]["name"] for edge in many["data"]["withdrawals"]["edges"]} == {
        "Ada"
    }


async def test_customers_with_their_wallets_take_a_fixed_number_of_statements(api: Harness) -> None:
    query = """query ($n: Int!) {
      customers(first: $n) { edges { node { wallets { balances { posted } addresses { id } evmAccount } } } } }"""
    for number in range(5):
        made = (await api.post("/v1/customers", {"name": f"C{number}", "external_ref": f"c{number}"})).json()
        await api.post("/v1/wallets", {"customer_id": made["id"], "name": "main"})
    _, one = await counted(api, query, n=1)
    answer, all_of_them = await counted(api, query, n=6)
    assert len(answer["data"]["customers"]["edges"]) == 6
    assert all_of_them == one


async def test_a_page_of_wallets_with_their_proofs_takes_a_fixed_number_of_statements(
    api: Harness, tmp_path: Path
) -> None:
    paid = {"from_wallet_id": api.tenant.wallet, "to_wallet_id": api.tenant.empty_wallet}
    await api.post("/v1/transfers", {**paid, "asset": XLM.text, "amount": "5"})
    desk = CheckpointDesk(tmp_path)
    await worker.seal_all(api.app.db, desk)
    desk.close()
    query = """query ($n: Int!, $a: ID!) {
      wallets(first: $n) { edges { node { id liabilityProof(asset: $a) { balance root total } } } } }"""
    _, one = await counted(api, query, n=1, a=XLM.text)
    both, all_of_them = await counted(api, query, n=2, a=XLM.text)
    shown = [each["node"]["liabilityProof"] for each in both["data"]["wallets"]["edges"]]
    assert sorted(int(each["balance"]) for each in shown) == [5, FUNDS - 5]
    assert {(each["root"], each["total"]) for each in shown} == {(shown[0]["root"], str(FUNDS))}
    assert all_of_them == one
    await api.post("/v1/wallets", {"customer_id": api.tenant.customer, "name": "never paid"})
    third = await api.graphql(query, n=3, a=XLM.text)
    assert [each["extensions"]["code"] for each in third["errors"]] == ["not_in_liabilities"]
    assert len(third["data"]["wallets"]["edges"]) == 3


async def test_transfers_show_both_sides_newest_first(api: Harness) -> None:
    for amount in ("10", "20"):
        await api.post(
            "/v1/transfers",
            {
                "from_wallet_id": api.tenant.wallet,
                "to_wallet_id": api.tenant.empty_wallet,
                "asset": XLM.text,
                "amount": amount,
            },
        )
    query = """query ($w: ID) { transfers(walletId: $w) {
      edges { node { id amount { atomic } source { name } destination { name } } } } }"""
    found = (await api.graphql(query, w=api.tenant.empty_wallet))["data"]["transfers"]["edges"]
    assert [edge["node"]["amount"]["atomic"] for edge in found] == ["20", "10"]
    assert found[0]["node"]["source"] == {"name": "main"}
    assert found[0]["node"]["destination"] == {"name": "empty"}
    node = "query ($id: ID!) { node(id: $id) { id ... on Transfer { amount { atomic } } } }"
    again = await api.graphql(node, id=found[0]["node"]["id"])
    assert again["data"]["node"]["amount"] == {"atomic": "20"}


async def test_a_deposit_is_seen_with_its_wallet(api: Harness) -> None:
    issued = (await api.post(f"/v1/wallets/{api.tenant.empty_wallet}/addresses", {"chain": STELLAR})).json()
    vault = VaultId(parse_id("vlt", api.tenant.vault))
    arrival = ObservedTransfer(
        chain=STELLAR,
        height=9,
        block_hash="aa",
        tx_hash="bb",
        ordinal=1,
        asset=XLM,
        source=STRANGER,
        account=issued["account"],
        tag=int(issued["memo"]),
        amount=77,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        account = (await wallets.get_vault(uow, vault)).account
        await deposits.observe(uow, VaultRef(tenant=api.tenant.id, vault_id=vault, account=account), arrival)
        await credit_final(uow, STELLAR, 9)
    query = "{ deposits { edges { node { id state height occurredAt amount { atomic } wallet { id } } } } }"
    ((edge,),) = [(await api.graphql(query))["data"]["deposits"]["edges"]]
    assert edge["node"]["state"] == "credited"
    assert edge["node"]["wallet"] == {"id": api.tenant.empty_wallet}
    assert edge["node"]["amount"] == {"atomic": "77"}


async def test_audit_events_payouts_assets_and_chains_can_be_read(api: Harness) -> None:
    query = """{ auditEvents(first: 1) { edges { node { sequence action hash } } pageInfo { hasNextPage } }
      payouts { edges { node { id } } } assets { code decimals } chains { chain cursorHeight lagBlocks } }"""
    data = (await api.graphql(query))["data"]
    assert data["auditEvents"]["edges"][0]["node"]["sequence"] == "1"
    assert data["auditEvents"]["pageInfo"] == {"hasNextPage": True}
    assert [asset["code"] for asset in data["assets"]] == ["XLM", "ETH", "EUR"]
    assert [chain["chain"] for chain in data["chains"]] == ["stellar:devnet", "eip155:31337"]
    assert data["payouts"]["edges"] == []


async def test_what_costs_too_much_is_refused_before_it_runs(api: Harness) -> None:
    deep = "{ customers { edges { node { " + "wallets { customer { " * 4 + "id" + " }" * 12
    spread = "fragment a on Asset { id id id id id id id id id id } fragment b on Asset { "
    spread += "...a " * 101 + "} { assets { ...b } }"
    cases = {
        deep: "query_too_deep",
        "{" + " ".join(f"a{number}: assets {{ id }}" for number in range(16)) + "}": "too_many_aliases",
        "{ assets { " + "id " * 1001 + "} }": "too_many_tokens",
        spread: "too_many_fields",
        "{ assets { id ": "invalid_query",
        "{ asset { id } }": "invalid_query",
        'mutation { closeBank(name: "x") { id } }': "invalid_query",
        "subscription { balances { id } }": "invalid_query",
    }
    for query, code in cases.items():
        answer = await api.http.post("/graphql", json={"query": query}, headers=api.headers())
        assert answer.status_code == 400, query[:60]
        assert answer.json()["errors"][0]["extensions"]["code"] == code
        assert "data" not in answer.json()


async def test_errors_carry_codes(api: Harness) -> None:
    cases = {
        "{ customers(first: 0) { edges { cursor } } }": "bad_page_size",
        "{ customers(first: 101) { edges { cursor } } }": "bad_page_size",
        '{ customers(after: "x") { edges { cursor } } }': "malformed_cursor",
        '{ wallet(id: "wal_1") { id } }': "malformed_id",
        '{ node(id: "xyz_1") { id } }': "malformed_id",
    }
    for query, code in cases.items():
        answer = await api.http.post("/graphql", json={"query": query}, headers=api.headers())
        assert answer.status_code == 200
        assert [each["extensions"]["code"] for each in answer.json()["errors"]] == [code]
        assert answer.json()["errors"][0]["extensions"]["trace_id"] == answer.headers["x-request-id"]


async def test_the_media_type_follows_the_client(api: Harness) -> None:
    accepts = {"Accept": "application/graphql-response+json"}
    answer = await api.http.post(
        "/graphql", json={"query": "{ assets { id } }"}, headers=api.headers() | accepts
    )
    assert answer.headers["content-type"] == "application/graphql-response+json"


async def counted(api: Harness, query: str, **variables: object) -> tuple[dict[str, object], int]:
    """An answer and how many SQL statements it took, without the one that knows who asks: that is every few seconds'."""
    statements = 0

    def count(statement: str) -> None:
        nonlocal statements
        statements += "find_api_key" not in statement and not statement.startswith(("BEGIN", "COMMIT"))

    def by_toolkit(_: object, __: object, statement: str, *___: object) -> None:
        count(statement)

    def by_driver(asked: asyncpg.connection.LoggedQuery) -> None:
        count(asked.query)

    def connected(connection: Any, _: object) -> None:
        connection.driver_connection.add_query_logger(by_driver)

    engine = api.app.db.snapshots.engine.sync_engine
    await api.app.db.snapshots.close()  # connections that exist do not notice who listens
    event.listen(engine, "before_cursor_execute", by_toolkit)
    event.listen(engine, "connect", connected)
    try:
        answer = await api.graphql(query, **variables)
    finally:
        event.remove(engine, "before_cursor_execute", by_toolkit)
        event.remove(engine, "connect", connected)
        await api.app.db.snapshots.close()
    assert "errors" not in answer
    assert statements > 0
    return answer, statements


def withdrawal(api: Harness, amount: str) -> dict[str, object]:
    return {"wallet_id": api.tenant.wallet, "asset": XLM.text, "amount": amount, "destination": STRANGER}
