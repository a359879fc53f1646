"""The API's good days: what a custody app, an operator and an approver do, end to end over a real Postgres."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from custody.db.session import Database
from custody.db.signals import EMITTED
from custody.deposits import key_pool
from custody.holdings import sending
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId
from custody.signing import intents
from ingestion import cursor
from ingestion.model import BlockRef
from signer.protocol.approvals import approval_message
from tests.integration.api_harness import (
    EVM,
    FUNDS,
    STELLAR,
    STRANGER,
    XLM,
    Harness,
    approver_key,
    public_key_of,
    running,
)


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def test_a_customer_gets_a_wallet_and_addresses_on_both_chains(api: Harness) -> None:
    customer = (await api.post("/v1/customers", {"name": "Grace", "external_ref": "grace"})).json()
    wallet = await api.post("/v1/wallets", {"customer_id": customer["id"], "name": "main"})
    assert wallet.status_code == 201
    path = f"/v1/wallets/{wallet.json()['id']}/addresses"
    stellar = await api.post(path, {"chain": STELLAR})
    evm = await api.post(path, {"chain": EVM})
    assert (stellar.status_code, evm.status_code) == (201, 201)
    assert stellar.json()["address"].startswith("M")
    assert stellar.json()["memo"] == "1"
    assert evm.json()["address"].startswith("0x")
    assert evm.json()["memo"] is None
    listed = (await api.get(path)).json()["data"]
    assert {row["id"] for row in listed} == {stellar.json()["id"], evm.json()["id"]}


async def test_a_wallet_has_one_evm_address_however_often_and_under_whatever_key_it_is_asked_for(
    api: Harness,
) -> None:
    path = f"/v1/wallets/{api.tenant.wallet}/addresses"
    query = "query ($id: ID!) { node(id: $id) { ... on Wallet { evmAccount addresses { id address } } } }"
    none = (await api.graphql(query, id=api.tenant.wallet))["data"]["node"]
    assert none == {"evmAccount": None, "addresses": []}
    first = await api.post(path, {"chain": EVM}, key="same")
    second = await api.post(path, {"chain": EVM}, key="same")
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    assert (await api.post(path, {"chain": EVM})).json() == first.json()
    assert len((await api.get(path)).json()["data"]) == 1
    address = first.json()["address"]
    told = (await api.graphql(query, id=api.tenant.wallet))["data"]["node"]
    assert told == {"evmAccount": address, "addresses": [{"id": first.json()["id"], "address": address}]}


async def test_an_empty_pool_is_said_shown_and_over_once_keys_are_there(api: Harness) -> None:
    async def ask(name: str) -> httpx.Response:
        wallet = await api.post("/v1/wallets", {"customer_id": api.tenant.customer, "name": name})
        return await api.post(f"/v1/wallets/{wallet.json()['id']}/addresses", {"chain": EVM}, key=name)

    answers = [await ask(f"w{number}") for number in range(6)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 201, 201, 503]
    problem = answers[-1].json()
    assert (problem["code"], problem["retryable"]) == ("deposit_pool_empty", True)
    shown = (await api.get("/v1/deposit-pool")).json()
    assert shown == {
        "free": 0, "taken": 5, "set_aside": 0, "low_water": 50, "asked": 0, "refusal": None
    }  # fmt: skip
    assert 'custody_deposit_keys_free{tenant="1"} 0.0' in (await api.http.get("/metrics")).text
    await key_pool.refill(api.app.db, api.app.signer, api.tenant.id, low_water=1, batch_size=1)
    listed = (await api.graphql("{ wallets(first: 10) { edges { node { id name } } } }"))["data"]["wallets"]
    (late,) = [edge["node"]["id"] for edge in listed["edges"] if edge["node"]["name"] == "w5"]
    # Nothing was kept of the refusal: the same key is carried out now.
    again = await api.post(f"/v1/wallets/{late}/addresses", {"chain": EVM}, key="w5")
    assert again.status_code == 201
    assert 'custody_deposit_keys_free{tenant="1"} 0.0' in (await api.http.get("/metrics")).text
    theirs = await api.get("/v1/deposit-pool", tenant=api.other)
    assert (theirs.json()["free"], theirs.json()["taken"]) == (5, 0)


async def test_an_operator_creates_a_vault(api: Harness) -> None:
    made = await api.post("/v1/vaults", {"chain": EVM}, scope="operate")
    assert made.status_code == 201
    assert made.json()["purpose"] == "omnibus"
    listed = (await api.get("/v1/vaults")).json()["data"]
    assert made.json() in listed


async def test_a_transfer_moves_the_money_once_and_can_be_read(api: Harness) -> None:
    made = await api.post("/v1/transfers", transfer(api, "250"), key="move")
    again = await api.post("/v1/transfers", transfer(api, "250"), key="move")
    assert made.status_code == 201
    assert made.json()["amount"] == {
        "asset": XLM.text, "decimals": 7, "atomic": "250", "display": "0.0000250"
    }  # fmt: skip
    assert again.json() == made.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in made.headers
    assert (await api.get(f"/v1/transfers/{made.json()['id']}")).json() == made.json()
    assert (await api.get("/v1/transfers")).json()["data"] == [made.json()]
    assert await balance(api, api.tenant.wallet) == {"posted": FUNDS - 250, "available": FUNDS - 250}
    assert await balance(api, api.tenant.empty_wallet) == {"posted": 250, "available": 250}


async def test_a_withdrawal_is_held_then_approved_by_two_people_over_bytes_they_checked(api: Harness) -> None:
    asked = await api.post("/v1/withdrawals", withdrawal(api, "1000"))
    assert asked.status_code == 201
    assert asked.json()["state"] == "awaiting_approval"
    assert await balance(api, api.tenant.wallet) == {"posted": FUNDS, "available": FUNDS - 1000}
    pending = (await api.get("/v1/approvals", scope="approve", state="pending")).json()["data"]
    assert [row["id"] for row in pending] == [asked.json()["id"]]
    for missing, name in ((1, "alice"), (0, "bob")):
        decided = await api.post(
            f"/v1/approvals/{pending[0]['id']}/decisions", sign(pending[0], name), scope="approve"
        )
        assert decided.status_code == 201
        assert decided.json()["missing"] == missing
    found = (await api.get(f"/v1/withdrawals/{asked.json()['id']}")).json()
    assert found["state"] == "approved"
    assert found["attempts"] == []
    assert (await api.get("/v1/approvals", state="pending")).json()["data"] == []


async def test_a_veto_ends_the_withdrawal_and_releases_the_hold(api: Harness) -> None:
    asked = (await api.post("/v1/withdrawals", withdrawal(api, "1000"))).json()
    approval = (await api.get(f"/v1/approvals/{asked['id']}")).json()
    decided = await api.post(f"/v1/approvals/{asked['id']}/decisions", sign(approval, "carol", "reject"))
    assert decided.json()["state"] == "rejected"
    assert await balance(api, api.tenant.wallet) == {"posted": FUNDS, "available": FUNDS}


async def test_a_withdrawal_taken_back_releases_its_hold(api: Harness) -> None:
    asked = (await api.post("/v1/withdrawals", withdrawal(api, "1000"))).json()
    cancelled = await api.post(f"/v1/withdrawals/{asked['id']}/cancel", {})
    assert cancelled.status_code == 200
    assert cancelled.json()["state"] == "cancelled"
    assert await balance(api, api.tenant.wallet) == {"posted": FUNDS, "available": FUNDS}


async def test_a_shorter_window_is_written_into_the_intent(api: Harness) -> None:
    long = (await api.post("/v1/withdrawals", withdrawal(api, "1"))).json()
    short = (await api.post("/v1/withdrawals", withdrawal(api, "1") | {"expires_in_s": 60})).json()
    fields = [(await api.get(f"/v1/approvals/{each['id']}")).json()["fields"] for each in (long, short)]
    windows = [int(each["expires_at"]) - int(each["not_before"]) for each in fields]
    assert windows[0] - windows[1] == 3600 - 60


async def test_a_trustline_goes_through_approval_like_a_payment(api: Harness) -> None:
    usdc = f"{STELLAR}/USDC:{STRANGER}"
    await api.post("/v1/assets", {"id": usdc, "code": "USDC", "decimals": 7})
    asked = await api.post(f"/v1/vaults/{api.tenant.vault}/trustlines", {"asset": usdc}, scope="operate")
    assert asked.status_code == 201
    assert (asked.json()["kind"], asked.json()["state"]) == ("change_trust", "awaiting_approval")


async def test_lists_come_in_pages_that_neither_repeat_nor_skip(api: Harness) -> None:
    for number in range(5):
        await api.post("/v1/customers", {"name": f"C{number}", "external_ref": f"ref-{number}"})
    seen: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        page = (await api.get("/v1/customers", **query)).json()
        seen += [row["external_ref"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == ["ada-acme", *(f"ref-{number}" for number in range(5))]


async def test_every_change_is_in_the_audit_log(api: Harness) -> None:
    made = (await api.post("/v1/transfers", transfer(api, "5"))).json()
    entries = (await api.get("/v1/audit-events")).json()["data"]
    assert [entry["sequence"] for entry in entries] == list(range(1, len(entries) + 1))
    assert entries[-1]["action"] == "transfer.post"
    assert entries[-1]["object_id"].replace("-", "") == made["id"].removeprefix("trf_")


async def test_a_wallet_has_one_payment_reference_for_ever(api: Harness) -> None:
    path = f"/v1/wallets/{api.tenant.wallet}/payment-reference"
    first, second = await api.post(path, {}), await api.post(path, {})
    assert first.status_code == 201
    assert first.json() == second.json()


async def test_probes_answer_without_a_key(api: Harness) -> None:
    assert (await api.http.get("/livez")).json() == {"status": "alive"}
    ready = await api.http.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    metrics = (await api.http.get("/metrics")).text
    assert 'custody_api_requests_total{method="GET",route="/readyz",status="200"} 1.0' in metrics


async def test_chains_show_what_is_known_while_their_nodes_are_silent(api: Harness) -> None:
    chains = (await api.get("/v1/chains")).json()["data"]
    assert [row["chain"] for row in chains] == [STELLAR, EVM]
    assert {row["head_height"] for row in chains} == {None}
    assert {row["last_block_at"] for row in chains} == {None}


async def test_a_chain_shows_its_own_time_of_the_block_at_the_cursor(
    api: Harness, database: Database
) -> None:
    block = BlockRef(height=7, hash="aa", parent_hash="bb", closed_at=datetime(2026, 1, 2, tzinfo=UTC))
    async with database.unit_of_work(None) as uow:
        fence = await cursor.take_over(uow, ChainId(STELLAR))
        await cursor.advance(uow, ChainId(STELLAR), fence, None, block)
    shown = (await api.get("/v1/chains")).json()["data"][0]
    assert (shown["cursor_height"], shown["last_block_at"]) == (7, "2026-01-02T00:00:00Z")
    assert shown["sending_stop"] is None
    async with database.unit_of_work(None) as uow:
        await sending.note_stopped(uow, ChainId(STELLAR), fence, "provider_disagrees")
    assert (await api.get("/v1/chains")).json()["data"][0]["sending_stop"] == "chain_halted"
    data = (await api.graphql("{ chains { chain lastBlockAt sendingStop } }"))["data"]
    assert data["chains"][0] == {
        "chain": STELLAR,
        "lastBlockAt": "2026-01-02T00:00:00+00:00",
        "sendingStop": "chain_halted",
    }
    assert data["chains"][1]["sendingStop"] is None


async def test_a_transfer_is_told_of_at_once(api: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for events is not left to poll for it."""
    told: list[tuple[str, set[TenantId]]] = []
    monkeypatch.setattr(api.app.db, "tell", lambda channel, tenants: told.append((channel, set(tenants))))
    assert (await api.post("/v1/transfers", transfer(api, "5"))).status_code == 201
    assert told == [(EMITTED, {api.tenant.id})]


def transfer(api: Harness, amount: str) -> dict[str, object]:
    return {
        "from_wallet_id": api.tenant.wallet,
        "to_wallet_id": api.tenant.empty_wallet,
        "asset": XLM.text,
        "amount": amount,
    }


def withdrawal(api: Harness, amount: str) -> dict[str, object]:
    return {"wallet_id": api.tenant.wallet, "asset": XLM.text, "amount": amount, "destination": STRANGER}


def sign(approval: dict[str, object], name: str, decision: str = "approve") -> dict[str, object]:
    """What an approver's tool does: hash the bytes itself, compare with what is shown, and sign that."""
    intent = base64.b64decode(str(approval["intent"]))
    digest = intents.digest(intent)
    assert digest.hex() == approval["digest"]
    assert isinstance(approval["approver_set_version"], int)
    message = approval_message(
        decision=decision, digest=digest, approver_set_version=approval["approver_set_version"]
    )
    return {
        "approver": name,
        "public_key": public_key_of(name),
        "decision": decision,
        "signature": approver_key(name).sign(message).hex(),
    }


async def balance(api: Harness, wallet: str) -> dict[str, int]:
    rows = (await api.get(f"/v1/wallets/{wallet}/balances")).json()["data"]
    found = next(row for row in rows if row["asset"] == XLM.text)
    return {name: int(found[name]) for name in ("posted", "available")}
