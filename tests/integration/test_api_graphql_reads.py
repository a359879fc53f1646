"""GraphQL beyond lists: books, policy, chains' troubles, trusted documents, and that a page costs the same however long it is."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.graphql.documents import BrokenRegistry, hash_of
from api.graphql.execution import Graph
from custody.db.session import Database
from custody.holdings import halts
from custody.holdings.model import Fork
from custody.kernel.ids import VaultId, parse_id
from custody.settings import ApiSettings
from custody.wallets import service as wallets
from ingestion import notices
from ingestion.model import BlockRef, Notice
from tests.integration.api_harness import FUNDS, STELLAR, STRANGER, XLM, Harness, running
from tests.integration.test_api_graphql import counted
from tests.postgres import Cluster

MOVES = 50


@pytest.fixture(scope="module")
async def api(cluster: Cluster) -> AsyncIterator[Harness]:
    """Read by all tests of this file: fifty transfers, two withdrawals that wait for approvers."""
    name = await cluster.create()
    database = Database(cluster.dsn(name, "custody_app"), pool_size=10)
    async with running(database) as harness:
        move = {
            "from_wallet_id": harness.tenant.wallet,
            "to_wallet_id": harness.tenant.empty_wallet,
            "asset": XLM.text,
        }
        for number in range(MOVES):
            assert (
                await harness.post("/v1/transfers", {**move, "amount": str(number + 1)})
            ).status_code == 201
        ask = {"wallet_id": harness.tenant.wallet, "asset": XLM.text, "destination": STRANGER}
        for amount in ("7", "8"):
            assert (await harness.post("/v1/withdrawals", {**ask, "amount": amount})).status_code == 201
        yield harness
    await database.close()
    await cluster.release(name)


@pytest.mark.parametrize(
    "query",
    [
        """query ($n: Int!) { transfers(first: $n) { edges { node { amount { atomic asset { code } }
             source { name customer { name wallets { id balances { posted reserved } } } }
             destination { evmAccount addresses { id } }
           } } } }""",
        """query ($n: Int!) { withdrawals(first: $n, order: NEWEST_FIRST, state: "awaiting_approval") { edges { node {
             amount { display } wallet { name balances { available } } approvals { approver } attempts { number }
             policyTrace { rule missing demands { candidates } } } } } }""",
        "query ($n: Int!) { events(first: $n) { edges { node { type } } } auditEvents(first: $n) { edges { node { action } } } }",
    ],
)
async def test_a_page_of_fifty_takes_as_many_statements_as_a_page_of_one(api: Harness, query: str) -> None:
    _, one = await counted(api, query, n=1)
    _, fifty = await counted(api, query, n=MOVES)
    assert fifty == one


async def test_a_statement_runs_to_the_balance_and_goes_on_where_it_stopped(api: Harness) -> None:
    query = """query ($w: ID!, $a: String!, $after: String) { statement(walletId: $w, asset: $a, first: 40, after: $after) {
      edges { node { version amount { atomic display } balance { atomic } reserved { atomic } code } }
      pageInfo { endCursor hasNextPage } } }"""
    lines: list[dict[str, object]] = []
    after = None
    while True:
        page = (await api.graphql(query, w=api.tenant.wallet, a=XLM.text, after=after))["data"]["statement"]
        lines += [edge["node"] for edge in page["edges"]]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    spent = sum(range(1, MOVES + 1))
    assert [line["version"] for line in lines] == [str(number + 1) for number in range(MOVES + 3)]
    assert lines[0]["amount"] == {"atomic": str(FUNDS), "display": "100.0000000"}
    assert lines[1]["amount"] == {"atomic": "-1", "display": "-0.0000001"}
    assert lines[-1]["balance"] == {"atomic": str(FUNDS - spent)}
    assert lines[-1]["reserved"] == {"atomic": "15"}
    assert (await api.graphql(query, tenant=api.other, w=api.tenant.wallet, a=XLM.text))["data"] == {
        "statement": None
    }


async def test_a_balance_is_known_at_a_moment(api: Harness) -> None:
    query = """query ($w: ID!, $a: String!, $at: DateTime!) {
      balanceAt(walletId: $w, asset: $a, at: $at) { version posted { atomic } available { atomic } } }"""
    now = await api.graphql(query, w=api.tenant.empty_wallet, a=XLM.text, at=datetime.now(UTC).isoformat())
    received = {"atomic": str(sum(range(1, MOVES + 1)))}
    assert now["data"]["balanceAt"] == {"version": str(MOVES), "posted": received, "available": received}
    before = await api.graphql(query, w=api.tenant.empty_wallet, a=XLM.text, at="2020-01-01T00:00:00Z")
    assert before["data"]["balanceAt"]["version"] == "0"
    for moment, code in (("2026-01-01T00:00:00", "moment_without_zone"), ("soon", "invalid_query")):
        answer = await api.graphql(query, w=api.tenant.wallet, a=XLM.text, at=moment)
        assert answer["errors"][0]["extensions"]["code"] == code


async def test_a_withdrawal_tells_which_rule_decides_and_who_is_missing(api: Harness) -> None:
    query = """{ withdrawals(state: "awaiting_approval", order: NEWEST_FIRST, first: 1) { edges { node { amount { atomic }
      policyTrace { standing rule reason threshold missing decided
        demands { group threshold missing counted candidates } } } } } }"""
    ((edge,),) = [(await api.graphql(query))["data"]["withdrawals"]["edges"]]
    assert edge["node"]["amount"] == {"atomic": "8"}
    assert edge["node"]["policyTrace"] == {
        "standing": "pending",
        "rule": f"any-{STELLAR}",
        "reason": None,
        "threshold": 2,
        "missing": 2,
        "decided": [],
        "demands": [
            {
                "group": "treasury",
                "threshold": 2,
                "missing": 2,
                "counted": [],
                "candidates": ["alice", "bob", "carol"],
            }
        ],
    }
    unknown = await api.graphql('{ withdrawals(state: "lost") { edges { cursor } } }')
    assert unknown["errors"][0]["extensions"]["code"] == "unknown_filter"


async def test_a_chains_halt_and_notices_are_seen_by_those_whom_they_concern(api: Harness) -> None:
    async with api.app.db.unit_of_work(None) as uow:
        fork = Fork(
            chain=STELLAR, fork_height=5, fork_hash="a", our_height=9, our_hash="b", final_height=8, seen_height=9, seen_hash="c"
        )  # fmt: skip
        await halts.open_halt(uow, [api.tenant.id, api.other.id], fork)
    async with api.app.db.read(api.tenant.id) as session:
        vault = VaultId(parse_id("vlt", api.tenant.vault))
        ours = (await wallets.get_vault(session, vault)).account
    told = [
        Notice(code=code, account=account, asset="", reported="1", found="2")
        for code, account in (("odd_amount", ours), ("token_upgraded", ""))
    ]
    ref = BlockRef(height=7, hash="h", parent_hash="g", closed_at=datetime(2026, 1, 1, tzinfo=UTC))
    async with api.app.db.unit_of_work(None) as uow:
        await notices.keep(uow, STELLAR, ref, told)
    query = "{ chains { chain halt { state forkHeight } halts { state } notices { code account seen } } }"
    stellar, evm = (await api.graphql(query))["data"]["chains"]
    assert stellar["halt"] == {"state": "halted", "forkHeight": "5"}
    assert {(each["code"], each["account"]) for each in stellar["notices"]} == {
        ("odd_amount", ours),
        ("token_upgraded", None),
    }
    assert (evm["halt"], evm["halts"], evm["notices"]) == (None, [], [])
    theirs, _ = (await api.graphql(query, tenant=api.other))["data"]["chains"]
    assert [each["code"] for each in theirs["notices"]] == ["token_upgraded"]


async def test_a_trusted_document_is_named_by_its_hash_and_others_may_be_refused(
    api: Harness, tmp_path: Path
) -> None:
    trusted = "query Assets { assets { code } }"
    (tmp_path / "assets.graphql").write_text(trusted, "utf-8")
    open_to_all = api.asgi.state.graphql
    api.asgi.state.graphql = Graph.build(
        ApiSettings(port=1, trusted_documents=tmp_path, trusted_documents_only=True)
    )
    try:
        by_extension = {"extensions": {"persistedQuery": {"version": 1, "sha256Hash": hash_of(trusted)}}}
        for body, code in (
            ({"documentId": f"sha256:{hash_of(trusted)}"}, None),
            (by_extension, None),
            ({**by_extension, "query": trusted}, None),
            ({"documentId": f"sha256:{hash_of('x')}"}, "unknown_document"),
            ({"query": "{ assets { id } }"}, "document_not_trusted"),
            ({**by_extension, "query": "{ assets { id } }"}, "no_document"),
            ({"extensions": {"persistedQuery": {"version": 1}}}, "malformed_extension"),
            ({}, "no_document"),
            ({"query": "{ __schema { types { name } } }"}, "document_not_trusted"),
        ):
            answer = await api.http.post("/graphql", json=body, headers=api.headers())
            if code is None:
                assert answer.json() == {
                    "data": {"assets": [{"code": "XLM"}, {"code": "ETH"}, {"code": "EUR"}]}
                }
            else:
                assert (answer.status_code, answer.json()["code"]) == (422, code)
    finally:
        api.asgi.state.graphql = open_to_all


def test_a_registry_that_cannot_be_served_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "documents.json"
    for text, name in (("{ nothing }", None), ("{ assets { id } }", "0" * 64)):
        file.write_text(json.dumps({name or hash_of(text): text}), "utf-8")
        with pytest.raises(BrokenRegistry):
            Graph.build(ApiSettings(port=1, trusted_documents=file))
    with pytest.raises(BrokenRegistry):
        Graph.build(ApiSettings(port=1, trusted_documents=tmp_path / "nowhere"))


async def test_a_cursor_that_somebody_made_up_is_refused(api: Harness) -> None:
    query = "query ($after: String) { auditEvents(first: 1, after: $after) { pageInfo { endCursor } } }"
    given = (await api.graphql(query))["data"]["auditEvents"]["pageInfo"]["endCursor"]
    forged = base64.urlsafe_b64encode(base64.urlsafe_b64decode(given + "==")[:-1] + b"9").decode().rstrip("=")
    answer = await api.graphql(query, after=forged)
    assert answer["errors"][0]["extensions"]["code"] == "malformed_cursor"
