"""Cases over the API: the queue, the four ways out of it, memos of addresses, and what another tenant sees: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from custody.db.session import Database
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import VaultId, parse_id
from custody.wallets.model import VaultRef
from tests.fakes.finality import credit_final
from tests.integration.api_harness import EVM, FUNDS, STELLAR, STRANGER, XLM, Harness, running
from tests.integration.test_deposits_service import arrival

USDC = parse_asset_id(f"stellar:devnet/USDC:{STRANGER}")


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness
        async with database.read(harness.tenant.id) as session:
            assert await cases.differences(session) == {}


async def arrive(api: Harness, **changes: object) -> None:
    """Money from STRANGER to the omnibus vault, final."""
    vault = (await api.get("/v1/vaults")).json()["data"][0]
    ref = VaultRef(
        tenant=api.tenant.id, vault_id=VaultId(parse_id("vlt", vault["id"])), account=vault["account"]
    )
    seen = arrival(**{"account": ref.account, "source": STRANGER, "tag": None} | changes)
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        await deposits.observe(uow, ref, seen)
        await credit_final(uow, STELLAR, seen.height)


async def queue(api: Harness, **query: str) -> list[dict[str, Any]]:
    answer = await api.get("/v1/cases", **query)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["data"]
    return rows


async def posted(api: Harness, wallet: str, asset: AssetId = XLM) -> int:
    rows = (await api.get(f"/v1/wallets/{wallet}/balances")).json()["data"]
    return sum(int(row["posted"]) for row in rows if row["asset"] == asset.text)


async def test_an_operator_assigns_what_names_nobody(api: Harness) -> None:
    await arrive(api, memo="bytes:ff00")
    (case,) = await queue(api, state="open")
    assert (case["reason"], case["atomic"], case["amount"]["display"]) == ("unknown_memo", "500", "0.0000500")
    assert (case["arrival"]["memo_type"], case["arrival"]["memo"]) == ("bytes", "ff00")
    path = f"/v1/cases/{case['id']}"
    assert (await api.get(path)).json() == case
    body = {"wallet_id": api.tenant.empty_wallet, "note": "ticket 7"}
    first = await api.post(f"{path}/assign", body, key="same", scope="operate")
    again = await api.post(f"{path}/assign", body, key="same", scope="operate")
    assert first.status_code == 200, first.text
    assert (first.json()["state"], first.json()["decided_by"]) == ("assigned", "acme-operate")
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert await posted(api, api.tenant.empty_wallet) == 500
    other = await api.post(f"{path}/assign", {"wallet_id": api.tenant.wallet}, scope="operate")
    assert (other.status_code, other.json()["code"]) == (409, "case_decided")
    assert await posted(api, api.tenant.wallet) == FUNDS
    assert await queue(api, state="open") == []


async def test_a_return_is_a_withdrawal_that_waits_for_approvers(api: Harness) -> None:
    await arrive(api)
    (case,) = await queue(api)
    body = {"destination": STRANGER, "memo": {"type": "text", "value": "ref 9"}}
    asked = await api.post(f"/v1/cases/{case['id']}/return", body, key="back", scope="operate")
    assert asked.status_code == 201, asked.text
    assert (await api.post(f"/v1/cases/{case['id']}/return", body, key="back", scope="operate")).json() == (
        asked.json()
    )
    withdrawal = (await api.get(f"/v1/withdrawals/{asked.json()['withdrawal_id']}")).json()
    assert (withdrawal["kind"], withdrawal["state"], withdrawal["wallet_id"]) == (
        "return", "awaiting_approval", None,
    )  # fmt: skip
    assert (withdrawal["memo"], withdrawal["amount"]["atomic"]) == (body["memo"], "500")
    twice = await api.post(f"/v1/cases/{case['id']}/return", body, scope="operate")
    assert (twice.status_code, twice.json()["code"]) == (409, "case_decided")
    elsewhere = (await api.get("/v1/vaults", tenant=api.other)).json()["data"][0]["account"]
    await api.post(f"/v1/withdrawals/{withdrawal['id']}/cancel", {})
    wrong = await api.post(
        f"/v1/cases/{case['id']}/return", {"destination": elsewhere, "memo": None}, scope="operate"
    )
    assert (wrong.status_code, wrong.json()["code"]) == (422, "not_the_sender")


async def test_an_unlisted_asset_waits_in_the_queue_without_decimals(api: Harness) -> None:
    await arrive(api, asset=USDC)
    await arrive(api, asset=USDC, tx_hash="02")
    first, _ = await queue(api, reason="unsupported_asset", asset=USDC.text)
    assert (first["amount"], first["atomic"]) == (None, "500")
    for verb, body in (
        ("assign", {"wallet_id": api.tenant.wallet}),
        ("return", {"destination": STRANGER, "memo": None}),
    ):
        refused = await api.post(f"/v1/cases/{first['id']}/{verb}", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "case_not_booked")
    assert (await api.post(f"/v1/cases/{first['id']}/dismiss", {})).json()["state"] == "dismissed"
    await api.post("/v1/assets", {"id": USDC.text, "code": "USDC", "decimals": 7})
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        await credit_final(uow, STELLAR, 101)
    assert [(row["reason"], row["state"]) for row in await queue(api)] == [
        ("unsupported_asset", "dismissed"), ("unsupported_asset", "listed"), ("memo_missing", "open"),
    ]  # fmt: skip
    money = (await queue(api, state="open"))[0]
    assert money["amount"]["asset"] == USDC.text
    kept = await api.post(f"/v1/cases/{money['id']}/dismiss", {})
    assert (kept.status_code, kept.json()["code"]) == (409, "case_holds_money")


async def test_rules_are_set_and_read(api: Harness) -> None:
    asked = {"asset": XLM.text, "minimum": "1000", "dust": "10"}
    marked = {**asked, "distrusted": "mark"}
    made = await api.post("/v1/deposit-rules", marked, scope="operate")
    assert (made.status_code, made.json()) == (200, marked)
    bad = await api.post("/v1/deposit-rules", {**asked, "distrusted": "believe"}, scope="operate")
    assert bad.status_code == 422
    rule = {**asked, "distrusted": "refuse"}
    made = await api.post("/v1/deposit-rules", asked, scope="operate")
    assert (made.status_code, made.json()) == (200, rule)
    assert (await api.get("/v1/deposit-rules")).json()["data"] == [rule]
    assert (await api.get("/v1/deposit-rules", tenant=api.other)).json()["data"] == []
    await arrive(api)
    await arrive(api, tx_hash="02", amount=9)
    assert [(row["reason"], row["state"]) for row in await queue(api)] == [
        ("memo_missing", "open"), ("dust", "ignored"),
    ]  # fmt: skip


async def test_pages_and_filters_walk_the_queue(api: Harness) -> None:
    for n in range(5):
        await arrive(api, tx_hash=f"{n:02d}")
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await api.get("/v1/cases", limit="2", state="open", **cursor)).json()
        seen += [row["id"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert seen == [row["id"] for row in await queue(api)]
    assert len(set(seen)) == 5
    assert await queue(api, state="assigned") == []
    assert (await api.get("/v1/cases", state="nonsense")).json()["code"] == "invalid_input"
    assert (await api.get("/v1/cases", asset="nonsense")).json()["code"] == "malformed_asset_id"


async def test_another_tenants_case_does_not_exist(api: Harness) -> None:
    await arrive(api)
    (case,) = await queue(api)
    assert (await api.get(f"/v1/cases/{case['id']}", tenant=api.other)).status_code == 404
    assert (await api.get("/v1/cases", tenant=api.other)).json()["data"] == []
    for verb, body in (
        ("assign", {"wallet_id": api.other.wallet}),
        ("return", {"destination": STRANGER, "memo": None}),
        ("dismiss", {}),
    ):
        answer = await api.http.post(
            f"/v1/cases/{case['id']}/{verb}", json=body, headers=api.headers(tenant=api.other)
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_case")
    stolen = await api.post(f"/v1/cases/{case['id']}/assign", {"wallet_id": api.other.wallet})
    assert (stolen.status_code, stolen.json()["code"]) == (404, "unknown_wallet")
    assert (await queue(api))[0]["state"] == "open"


async def test_a_partners_memo_names_a_wallet_once(api: Harness) -> None:
    path = f"/v1/wallets/{api.tenant.empty_wallet}/addresses"
    body = {"chain": STELLAR, "memo": {"type": "text", "value": "ACME-7001"}}
    made = await api.post(path, body, key="same")
    assert made.status_code == 201, made.text
    shown = made.json()
    assert (shown["memo_type"], shown["memo"], shown["address"]) == ("text", "ACME-7001", shown["account"])
    assert (await api.post(path, body, key="same")).json() == shown
    taken = await api.post(f"/v1/wallets/{api.tenant.wallet}/addresses", body)
    assert (taken.status_code, taken.json()["code"]) == (409, "memo_taken")
    digest = {"chain": STELLAR, "memo": {"type": "return", "value": "ab" * 32}}
    assert (await api.post(path, digest)).json()["memo_type"] == "return"
    await arrive(api, memo="text:ACME-7001")
    await arrive(api, memo="hash:" + "ab" * 32, tx_hash="02")
    assert await posted(api, api.tenant.empty_wallet) == 1000
    assert await queue(api) == []
    listed = (await api.get(path)).json()["data"]
    assert {row["memo_type"] for row in listed} == {"text", "return"}


CASES = """
query ($states: [String!], $reasons: [String!], $after: String) {
  cases(states: $states, reasons: $reasons, first: 1, after: $after) {
    edges { node { id state reason asset atomic amount { display } depositId withdrawalId
                   arrival { txHash source memoType memo } namedWallet { id } wallet { id } } }
    pageInfo { hasNextPage endCursor }
  }
}
"""


async def test_graphql_reads_cases_alone_and_on_their_deposits(api: Harness) -> None:
    await arrive(api, memo="text:hello")
    await arrive(api, asset=USDC, tx_hash="02")
    first = (await api.graphql(CASES))["data"]["cases"]
    node = first["edges"][0]["node"]
    assert (node["reason"], node["amount"], node["arrival"]["memo"]) == (
        "unknown_memo", {"display": "0.0000500"}, "hello",
    )  # fmt: skip
    assert first["pageInfo"]["hasNextPage"]
    second = (await api.graphql(CASES, after=first["pageInfo"]["endCursor"]))["data"]["cases"]
    token = second["edges"][0]["node"]
    assert (token["reason"], token["amount"], token["atomic"]) == ("unsupported_asset", None, "500")
    filtered = (await api.graphql(CASES, states=["open"], reasons=["unknown_memo"]))["data"]["cases"]
    assert [edge["node"]["id"] for edge in filtered["edges"]] == [node["id"]]
    assert (await api.graphql(CASES, states=["nope"]))["errors"][0]["extensions"]["code"] == "unknown_filter"
    await api.post(f"/v1/cases/{node['id']}/assign", {"wallet_id": api.tenant.empty_wallet})
    query = "{ deposits { edges { node { id state case { id state wallet { id } } } } } }"
    answer = await api.graphql(query)
    (edge,) = answer["data"]["deposits"]["edges"]
    assert edge["node"] == {
        "id": node["depositId"],
        "state": "credited",
        "case": {"id": node["id"], "state": "assigned", "wallet": {"id": api.tenant.empty_wallet}},
    }
    by_id = "query ($id: ID!) { node(id: $id) { __typename id } }"
    assert (await api.graphql(by_id, id=node["id"]))["data"]["node"]["__typename"] == "Case"
    assert (await api.graphql(by_id, id=token["depositId"]))["data"]["node"] is None
    assert (await api.graphql(by_id, id=node["id"], tenant=api.other))["data"]["node"] is None
    assert (await api.graphql(CASES, tenant=api.other))["data"]["cases"]["edges"] == []


async def test_evm_addresses_take_no_memo(api: Harness) -> None:
    body = {"chain": EVM, "memo": {"type": "text", "value": "a"}}
    refused = await api.post(f"/v1/wallets/{api.tenant.wallet}/addresses", body)
    assert (refused.status_code, refused.json()["code"]) == (422, "memos_not_known")


async def test_a_pooled_account_is_asked_to_want_memos_under_the_quorum(api: Harness) -> None:
    path = f"/v1/vaults/{api.tenant.vault}/memo-required"
    asked = await api.post(path, {}, key="same", scope="operate")
    assert (asked.status_code, asked.json()["kind"], asked.json()["state"]) == (
        201, "memo_required", "awaiting_approval",
    )  # fmt: skip
    assert (await api.post(path, {}, key="same", scope="operate")).json() == asked.json()
    fields = (await api.get(f"/v1/approvals/{asked.json()['id']}")).json()
    assert "stellar_memo_required" in str(fields)
    # Its node is away: that is no answer, and no failure.
    assert (await api.get(path)).json() == {"vault_id": api.tenant.vault, "required": None}
    evm = (await api.post("/v1/vaults", {"chain": EVM}, scope="operate")).json()["id"]
    for answer in (
        await api.get(f"/v1/vaults/{evm}/memo-required"),
        await api.post(f"/v1/vaults/{evm}/memo-required", {}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "unsupported_chain")
