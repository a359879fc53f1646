"""Fiat by REST: euros arrive by a signed callback, a payout leaves, and the rail's reports move it once each."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest

from custody.db.session import Database
from custody.kernel.clock import SystemClock
from custody.payouts import service as payouts
from tests.integration.api_harness import CALLBACK_SECRET, EUR, Harness, running

OUR_IBAN = "DE75512108001245126199"
BENEFICIARY = "FR1420041010050500013M02606"
CALLBACKS = "/v1/rails/sandbox/callbacks"


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        account = {"rail": "sandbox", "iban": OUR_IBAN, "asset": EUR.text, "name": "Main"}
        harness.tenant.bank = (await harness.post("/v1/bank-accounts", account)).json()["id"]
        yield harness


async def test_euros_arrive_once_however_often_the_bank_says_so(api: Harness) -> None:
    reference = await pay_in(api, 30_000)
    assert await euros(api) == {"posted": 30_000, "available": 30_000}
    (receipt,) = (await api.get("/v1/receipts")).json()["data"]
    assert (receipt["outcome"], receipt["wallet_id"]) == ("credited", api.tenant.wallet)
    assert reference in receipt["remittance"]


async def test_money_without_a_reference_waits_in_suspense(api: Harness) -> None:
    assert (await tell(api, incoming(500, "hello"))).json() == {"received": 1}
    (receipt,) = (await api.get("/v1/receipts")).json()["data"]
    assert (receipt["outcome"], receipt["wallet_id"]) == ("suspended", None)


async def test_a_payout_is_held_sent_and_settled_by_callback(api: Harness) -> None:
    await pay_in(api, 30_000)
    asked = await api.post("/v1/payouts", payout(api, "12050"))
    assert asked.status_code == 201
    assert await euros(api) == {"posted": 30_000, "available": 30_000 - 12_050}
    reference = await claim(api)
    settled = payment("settled", reference, 12_050)
    assert [(await tell(api, settled)).status_code for _ in range(2)] == [200, 200]
    found = (await api.get(f"/v1/payouts/{asked.json()['id']}")).json()
    assert (found["state"], found["reference"]) == ("settled", reference)
    assert await euros(api) == {"posted": 30_000 - 12_050, "available": 30_000 - 12_050}
    late = await api.post(f"/v1/payouts/{asked.json()['id']}/cancel", {})
    assert (late.status_code, late.json()["code"]) == (409, "illegal_transition")


async def test_a_payout_that_nobody_claimed_can_be_cancelled(api: Harness) -> None:
    await pay_in(api, 30_000)
    asked = (await api.post("/v1/payouts", payout(api, "100"))).json()
    cancelled = await api.post(f"/v1/payouts/{asked['id']}/cancel", {})
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert await euros(api) == {"posted": 30_000, "available": 30_000}
    assert [row["id"] for row in (await api.get("/v1/payouts")).json()["data"]] == [asked["id"]]


async def test_a_report_about_another_amount_settles_nothing(api: Harness) -> None:
    await pay_in(api, 30_000)
    asked = (await api.post("/v1/payouts", payout(api, "100"))).json()
    assert (await tell(api, payment("settled", await claim(api), 99))).status_code == 200
    found = (await api.get(f"/v1/payouts/{asked['id']}")).json()
    assert (found["state"], found["reason"]) == ("integrity_failed", "amount")


async def test_a_report_about_nothing_of_ours_is_not_found(api: Harness) -> None:
    stray = await tell(api, payment("settled", "CP" + "0" * 32, 1))
    assert (stray.status_code, stray.json()["code"]) == (404, "unknown_payout_reference")
    unknown_account = incoming(1, "x")
    unknown_account["incoming"] = {**dict_of(unknown_account, "incoming"), "account": "AT611904300234573201"}
    answer = await tell(api, unknown_account)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_bank_account")


async def pay_in(api: Harness, amount: int) -> str:
    """Euros for the wallet, told twice; its payment reference."""
    path = f"/v1/wallets/{api.tenant.wallet}/payment-reference"
    reference = str((await api.post(path, {})).json()["reference"])
    fact = incoming(amount, f"for {reference} thanks")
    assert [(await tell(api, fact)).status_code for _ in range(2)] == [200, 200]
    return reference


async def claim(api: Harness) -> str:
    """Let a rails worker take the payout; the reference under which it sends."""
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        attempt = await payouts.claim(uow, ("sandbox",), SystemClock().now(), timedelta(minutes=1))
    assert attempt is not None
    return attempt.instruction.reference


def payout(api: Harness, amount: str) -> dict[str, object]:
    return {
        "wallet_id": api.tenant.wallet,
        "bank_account_id": api.tenant.bank,
        "asset": EUR.text,
        "amount": amount,
        "beneficiary": {"iban": BENEFICIARY, "name": "Grace Hopper"},
        "remittance": "Invoice 7421",
    }


def incoming(amount: int, remittance: str) -> dict[str, object]:
    """What the bank says when money has arrived."""
    return {
        "type": "incoming.booked",
        "event": {"id": f"evt-in-{amount}", "at": "2026-01-01T00:00:00Z"},
        "incoming": {
            "id": f"in-{amount}",
            "account": OUR_IBAN,
            "amount": str(amount),
            "currency": "EUR",
            "remittance": remittance,
            "debtor_iban": BENEFICIARY,
            "debtor_name": "Grace Hopper",
        },
    }


def payment(status: str, reference: str, amount: int) -> dict[str, object]:
    """What the bank says about a payment of ours."""
    return {
        "type": f"payment.{status}",
        "event": {
            "id": f"evt-{reference}-{status}",
            "status": status,
            "code": "",
            "at": "2026-01-01T00:00:00Z",
        },
        "payment": {
            "id": f"pay-{reference}",
            "end_to_end_id": reference,
            "debtor_iban": OUR_IBAN,
            "creditor_iban": BENEFICIARY,
            "amount": str(amount),
            "currency": "EUR",
        },
    }


async def tell(api: Harness, body: dict[str, object]) -> httpx.Response:
    """Deliver a callback as the bank does. Source: Standard Webhooks."""
    raw = json.dumps(body).encode()
    message_id, now = str(dict_of(body, "event")["id"]), str(int(SystemClock().now().timestamp()))
    key = base64.b64decode(CALLBACK_SECRET.removeprefix("whsec_"))
    mark = hmac.new(key, f"{message_id}.{now}.".encode() + raw, hashlib.sha256).digest()
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": now,
        "webhook-signature": "v1," + base64.b64encode(mark).decode(),
    }
    return await api.http.post(CALLBACKS, content=raw, headers=headers)


def dict_of(body: dict[str, object], name: str) -> dict[str, object]:
    found = body[name]
    assert isinstance(found, dict)
    return found


async def euros(api: Harness) -> dict[str, int]:
    rows = (await api.get(f"/v1/wallets/{api.tenant.wallet}/balances")).json()["data"]
    (found,) = [row for row in rows if row["asset"] == EUR.text]
    return {name: int(found[name]) for name in ("posted", "available")}
