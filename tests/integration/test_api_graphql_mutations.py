"""Mutations: the services of REST under the same keys and rules, with what is expected to go wrong told in the payload."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from custody.db.session import Database
from custody.signing import intents
from tests.integration.api_harness import (
    EUR,
    FUNDS,
    STELLAR,
    STRANGER,
    XLM,
    Harness,
    running,
)
from tests.integration.graphql_stage import ERRORS, decision, mutate
from tests.postgres import Cluster

TRANSFER = f"""mutation ($input: CreateTransferInput!) {{ createTransfer(input: $input) {{ {ERRORS}
  transfer {{ id amount {{ atomic }} source {{ balances {{ available }} }} }} }} }}"""
WITHDRAW = f"""mutation ($input: CreateWithdrawalInput!) {{ createWithdrawal(input: $input) {{ {ERRORS}
  withdrawal {{ id state digest policyTrace {{ approverSetVersion missing }} }} }} }}"""
DECIDE = f"""mutation ($input: DecideApprovalInput!) {{ decideApproval(input: $input) {{ {ERRORS}
  withdrawal {{ state policyTrace {{ decided missing }} }} }} }}"""

CANCEL = f"""mutation ($input: CancelInput!) {{ cancelWithdrawal(input: $input) {{ {ERRORS}
  withdrawal {{ state }} }} }}"""


@pytest.fixture(scope="module")
async def api(cluster: Cluster) -> AsyncIterator[Harness]:
    name = await cluster.create()
    database = Database(cluster.dsn(name, "custody_app"), pool_size=20)
    async with running(database) as harness:
        yield harness
    await database.close()
    await cluster.release(name)


async def test_a_customer_comes_to_a_wallet_an_address_and_money(api: Harness) -> None:
    made = await mutate(
        api,
        f"mutation ($input: CreateCustomerInput!) {{ createCustomer(input: $input) {{ {ERRORS} customer {{ id kind }} }} }}",
        idempotencyKey="c1",
        name="Grace",
        externalRef="grace-1",
    )
    assert (made["status"], made["errors"], made["customer"]["kind"]) == ("DONE", [], "customer")
    wallet = await mutate(
        api,
        f"""mutation ($input: CreateWalletInput!) {{
          createWallet(input: $input) {{ {ERRORS} wallet {{ id customer {{ name }} }} }} }}""",
        idempotencyKey="w1",
        customerId=made["customer"]["id"],
        name="main",
    )
    assert wallet["wallet"]["customer"] == {"name": "Grace"}
    issue = f"mutation ($input: IssueAddressInput!) {{ issueAddress(input: $input) {{ {ERRORS} address {{ id memo }} }} }}"
    asked = {"idempotencyKey": "a1", "walletId": wallet["wallet"]["id"], "chain": STELLAR}
    first, again = await mutate(api, issue, **asked), await mutate(api, issue, **asked)
    assert (first["status"], again["status"]) == ("DONE", "ALREADY_EXISTS")
    assert first["address"] == again["address"] != None  # noqa: E711 - both at once
    paid = await mutate(
        api,
        TRANSFER,
        idempotencyKey="t1",
        fromWalletId=api.tenant.wallet,
        toWalletId=wallet["wallet"]["id"],
        asset=XLM.text,
        amount="1000",
    )
    assert paid["status"] == "DONE"
    assert paid["transfer"]["source"]["balances"] == [{"available": str(FUNDS - 1000)}]


async def test_a_withdrawal_is_pending_decided_and_taken_back(api: Harness) -> None:
    asked = {"walletId": api.tenant.empty_wallet, "asset": XLM.text, "amount": "5", "destination": STRANGER}
    poor = await mutate(api, WITHDRAW, idempotencyKey="wd", **asked)
    assert (poor["status"], poor["withdrawal"]) == ("REFUSED", None)
    assert poor["errors"] == [{"code": "insufficient_funds", "field": None, "retryable": False}]
    rich = {**asked, "walletId": api.tenant.wallet}
    made = await mutate(api, WITHDRAW, idempotencyKey="wd", **rich)  # a refusal has used no key up
    assert (made["status"], made["withdrawal"]["state"]) == ("PENDING", "awaiting_approval")
    again = await mutate(api, WITHDRAW, idempotencyKey="wd", **rich)
    assert (again["status"], again["withdrawal"]) == ("ALREADY_EXISTS", made["withdrawal"])
    reused = await mutate(api, WITHDRAW, idempotencyKey="wd", **{**rich, "amount": "6"})
    assert [each["code"] for each in reused["errors"]] == ["idempotency_key_reused"]
    found = made["withdrawal"]
    decided = await mutate(api, DECIDE, idempotencyKey="d1", **decision(found, "alice", "APPROVE"))
    assert (decided["status"], decided["withdrawal"]["policyTrace"]) == (
        "DONE",
        {"decided": ["alice"], "missing": 1},
    )
    ended = await mutate(api, CANCEL, idempotencyKey="x1", id=found["id"])
    assert (ended["status"], ended["withdrawal"]) == ("DONE", {"state": "cancelled"})
    late = await mutate(api, CANCEL, idempotencyKey="x2", id="wdr_" + "0" * 32)
    assert [each["code"] for each in late["errors"]] == ["unknown_withdrawal"]


@pytest.mark.parametrize("by", ["graph", "rest"])
@pytest.mark.parametrize("end", ["cancelled", "rejected"])
async def test_what_is_approved_is_given_up_only_once_the_signer_knows(
    api: Harness, by: str, end: str
) -> None:
    asked = {"walletId": api.tenant.wallet, "asset": XLM.text, "amount": "5", "destination": STRANGER}
    made = (await mutate(api, WITHDRAW, idempotencyKey=f"{by}-{end}", **asked))["withdrawal"]
    for name in ("alice", "bob"):
        decided = await mutate(
            api, DECIDE, idempotencyKey=f"{by}-{end}-{name}", **decision(made, name, "APPROVE")
        )
    assert decided["withdrawal"]["state"] == "approved"
    signer: Any = api.app.signer
    signer.reachable = False
    assert await give_up(api, by, end, made, "first") == "signer_unreachable"
    state = (await api.get(f"/v1/withdrawals/{made['id']}")).json()["state"]
    assert (state, signer.voided) == ("approved", [])
    signer.reachable = True
    assert await give_up(api, by, end, made, "second") == end
    assert [intents.digest(intent).hex() for intent in signer.voided] == [made["digest"]]
    signer.voided.clear()


async def give_up(api: Harness, by: str, end: str, made: dict[str, Any], key: str) -> str:
    """The state that it ends in, or why it does not."""
    if by == "graph":
        word, fields = (
            (CANCEL, {"id": made["id"]})
            if end == "cancelled"
            else (DECIDE, decision(made, "carol", "REJECT"))
        )
        payload = await mutate(api, word, idempotencyKey=f"{by}-{end}-{key}", **fields)
        return payload["withdrawal"]["state"] if payload["withdrawal"] else payload["errors"][0]["code"]
    path, body = f"/v1/withdrawals/{made['id']}/cancel", None
    if end == "rejected":
        said = decision(made, "carol", "REJECT")
        path = f"/v1/approvals/{made['id']}/decisions"
        body = {
            "approver": "carol",
            "decision": "reject",
            "public_key": said["publicKey"],
            "signature": said["signature"],
        }
    answer = (await api.post(path, body, key=f"{by}-{end}-{key}")).json()
    return str(answer.get("code") or answer["state"])


async def test_a_payout_is_held_and_taken_back(api: Harness) -> None:
    bank = await api.post(
        "/v1/bank-accounts",
        {"asset": EUR.text, "rail": "sandbox", "iban": "DE75512108001245126199", "name": "Ours"},
    )
    assert bank.status_code == 201, bank.text
    ask = f"mutation ($input: CreatePayoutInput!) {{ createPayout(input: $input) {{ {ERRORS} payout {{ id state }} }} }}"
    given = {
        "walletId": api.tenant.wallet,
        "bankAccountId": bank.json()["id"],
        "asset": EUR.text,
        "amount": "100",
        "beneficiaryIban": "FR1420041010050500013M02606",
        "beneficiaryName": "Grace Hopper",
    }
    refused = await mutate(api, ask, idempotencyKey="p1", **given)
    assert [each["code"] for each in refused["errors"]] == ["insufficient_funds"]
    wrong = await mutate(api, ask, idempotencyKey="p2", **{**given, "beneficiaryName": ""})
    assert wrong["errors"] == [{"code": "too_short", "field": "beneficiary/name", "retryable": False}]


@pytest.mark.parametrize(
    ("scope", "changes", "code", "field"),
    [
        ("all", {"idempotencyKey": ""}, "idempotency_key_missing", None),
        ("all", {"idempotencyKey": "a b"}, "idempotency_key_missing", None),
        ("all", {"amount": "1.5"}, "malformed_amount", "amount"),
        ("all", {"amount": "-1"}, "amount_not_positive", "amount"),
        ("all", {"fee": "0"}, "amount_not_positive", "fee"),
        ("all", {"fromWalletId": "wal_1"}, "malformed_id", "fromWalletId"),
        ("all", {"asset": "nothing"}, "malformed_asset_id", "asset"),
        ("all", {"asset": "x" * 500}, "too_long", "asset"),
        ("all", {"toWalletId": "wal_" + "0" * 32}, "unknown_wallet", None),
    ],
)
async def test_what_is_wrong_is_told_with_a_code_and_changes_nothing(
    api: Harness, scope: str, changes: dict[str, str], code: str, field: str | None
) -> None:
    good = {
        "idempotencyKey": "refused",
        "fromWalletId": api.tenant.wallet,
        "toWalletId": api.tenant.empty_wallet,
        "asset": XLM.text,
        "amount": "1",
    }
    payload = await mutate(api, TRANSFER, scope, **{**good, **changes})
    assert (payload["status"], payload["transfer"]) == ("REFUSED", None)
    assert [(each["code"], each["field"]) for each in payload["errors"]] == [(code, field)]


async def test_fifty_callers_with_one_key_move_money_once(api: Harness) -> None:
    given = {
        "idempotencyKey": "fifty",
        "fromWalletId": api.tenant.wallet,
        "toWalletId": api.tenant.empty_wallet,
        "asset": XLM.text,
        "amount": "3",
    }
    found = await asyncio.gather(*(mutate(api, TRANSFER, **given) for _ in range(50)))
    assert sorted(each["status"] for each in found) == ["ALREADY_EXISTS"] * 49 + ["DONE"]
    assert len({each["transfer"]["id"] for each in found}) == 1
