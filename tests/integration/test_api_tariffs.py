"""What a withdrawal costs, over HTTP: the tariff, the quote that binds, and the fee quoted, held and charged."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from custody.db.session import Database
from tests.integration.api_harness import FUNDS, STRANGER, XLM, Harness, running

FEES = """
query ($id: ID!) { withdrawal(id: $id) { amount { atomic } fee {
  kind tariffVersion quoteId quoted { atomic } held { atomic } charged { atomic } } } }
"""


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def test_a_withdrawal_shows_what_was_quoted_held_and_charged(api: Harness) -> None:
    terms = {
        "asset": XLM.text,
        "kind": "bps",
        "bps": 25,
        "minimum": "7",
        "maximum": "900",
        "quote_valid_s": 300,
    }
    assert (await api.post("/v1/tariffs", terms, scope="write")).status_code == 403
    tariff = (await api.post("/v1/tariffs", terms)).json()
    assert (tariff["version"], tariff["bps"], tariff["rounding"]) == (1, 25, "ceil")
    assert (await api.get("/v1/tariffs")).json()["data"] == [tariff]
    considered = {"wallet_id": api.tenant.wallet, "asset": XLM.text, "amount": "10001"}
    answers = [await api.post("/v1/withdrawal-quotes", considered, key="one-quote") for _ in range(2)]
    assert [each.status_code for each in answers] == [201, 201]
    quote = answers[0].json()
    assert answers[1].json() == quote
    told = (quote["kind"], quote["fee"]["atomic"], quote["total"]["atomic"], quote["tariff_version"])
    assert told == ("bps", "26", "10027", 1)
    assert (await api.get(f"/v1/withdrawal-quotes/{quote['id']}")).json() == quote
    stranger = await api.get(f"/v1/withdrawal-quotes/{quote['id']}", tenant=api.other)
    assert (stranger.status_code, stranger.json()["code"]) == (404, "unknown_quote")
    # A newer tariff does not touch the quote.
    await api.post("/v1/tariffs", terms | {"bps": 10_000, "maximum": None})
    asked = considered | {"destination": STRANGER, "quote_id": quote["id"]}
    other = await api.post("/v1/withdrawals", asked | {"amount": "10002"})
    assert (other.status_code, other.json()["code"]) == (422, "quote_differs")
    made = (await api.post("/v1/withdrawals", asked)).json()
    fee = made["fee"]
    assert (fee["quoted"]["atomic"], fee["held"]["atomic"], fee["charged"]) == ("26", "26", None)
    balances = (await api.get(f"/v1/wallets/{api.tenant.wallet}/balances")).json()["data"]
    (balance,) = [each for each in balances if each["asset"] == XLM.text]
    assert balance["available"] == str(FUNDS - 10_027)
    again = await api.post("/v1/withdrawals", asked)
    assert (again.status_code, again.json()["code"]) == (409, "quote_used")
    cancelled = (await api.post(f"/v1/withdrawals/{made['id']}/cancel", {})).json()
    assert cancelled["fee"]["charged"]["atomic"] == "0"
    shown = (await api.graphql(FEES, id=made["id"]))["data"]["withdrawal"]
    assert shown == {
        "amount": {"atomic": "10001"},
        "fee": {
            "kind": "bps",
            "tariffVersion": 1,
            "quoteId": quote["id"],
            "quoted": {"atomic": "26"},
            "held": {"atomic": "26"},
            "charged": {"atomic": "0"},
        },
    }
    # Without a quote the tariff in force is applied, and stated.
    unquoted = (await api.post("/v1/withdrawals", considered | {"destination": STRANGER})).json()["fee"]
    assert (unquoted["tariff_version"], unquoted["quoted"], unquoted["held"]["atomic"]) == (2, None, "10001")
