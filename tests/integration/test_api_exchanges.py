"""Exchanges and fees over HTTP: an operator's order, its replay and its reversal, and every wrong order's problem."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from custody.db.session import Database
from tests.integration.api_harness import ETH, EUR, FUNDS, XLM, Harness, running

NOBODY = "exc_" + "0" * 32
QUOTED = "2026-01-15T10:15:00.250Z"
OVER_UINT256 = str(2**256)


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


def order(api: Harness, **change: object) -> dict[str, object]:
    """Sell 1,000 stroops for cents at three stroops a cent."""
    good: dict[str, object] = {
        "from_wallet_id": api.tenant.wallet,
        "to_wallet_id": api.tenant.empty_wallet,
        "asset": XLM.text,
        "amount": "1000",
        "to_asset": EUR.text,
        "rate": {"numerator": "1", "denominator": "3", "source": "desk quote 7421", "quoted_at": QUOTED},
        "rounding": "floor",
    }
    return good | change


def rated(**change: object) -> dict[str, object]:
    return {"numerator": "1", "denominator": "3", "source": "desk", "quoted_at": QUOTED} | change


async def balances(api: Harness, wallet: str) -> dict[str, str]:
    """Posted atomic units by asset."""
    rows = (await api.get(f"/v1/wallets/{wallet}/balances")).json()["data"]
    return {row["asset"]: row["posted"] for row in rows}


async def test_an_operator_exchanges_and_reverses_and_both_can_be_repeated(api: Harness) -> None:
    made = await api.post("/v1/exchanges", order(api, fee="7"), key="order", scope="operate")
    again = await api.post("/v1/exchanges", order(api, fee="7"), key="order", scope="operate")
    assert made.status_code == 201
    assert (again.json(), again.headers["idempotency-replayed"]) == (made.json(), "true")
    shown = made.json()
    assert [shown[part]["atomic"] for part in ("sold", "bought", "fee")] == ["1000", "333", "7"]
    assert [shown[part]["asset"] for part in ("sold", "bought", "fee")] == [XLM.text, EUR.text, XLM.text]
    assert shown["rate"] == {
        "numerator": "1",
        "denominator": "3",
        "source": "desk quote 7421",
        "quoted_at": "2026-01-15T10:15:00.250000Z",
    }
    assert (shown["rounding"], shown["requested_by"], shown["reversed_at"]) == ("floor", "acme-operate", None)
    assert await balances(api, api.tenant.wallet) == {XLM.text: str(FUNDS - 1007)}
    assert await balances(api, api.tenant.empty_wallet) == {EUR.text: "333"}
    path = f"/v1/exchanges/{shown['id']}"
    assert (await api.get(path, scope="read")).json() == shown
    assert (await api.get("/v1/exchanges", scope="read")).json() == {"data": [shown], "next_cursor": None}

    undone = await api.post(f"{path}/reverse", {}, key="undo", scope="operate")
    repeated = await api.post(f"{path}/reverse", {}, key="undo", scope="operate")
    assert undone.status_code == 200
    assert repeated.json() == undone.json()
    assert undone.json()["reversed_at"] is not None
    assert await balances(api, api.tenant.wallet) == {XLM.text: str(FUNDS)}
    refused = await api.post(f"{path}/reverse", {}, scope="operate")
    assert (refused.status_code, refused.json()["code"]) == (409, "already_reversed")


async def test_a_key_names_one_order(api: Harness) -> None:
    await api.post("/v1/exchanges", order(api), key="order")
    other = await api.post("/v1/exchanges", order(api, rounding="ceil"), key="order")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_who_may_only_write_may_not_state_a_rate(api: Harness) -> None:
    for path in ("/v1/exchanges", f"/v1/exchanges/{NOBODY}/reverse"):
        refused = await api.post(path, order(api), scope="write")
        assert (refused.status_code, refused.json()["code"]) == (403, "missing_scope")


async def test_another_tenant_sees_no_exchange(api: Harness) -> None:
    made = (await api.post("/v1/exchanges", order(api))).json()
    path = f"/v1/exchanges/{made['id']}"
    read = await api.get(path, tenant=api.other)
    undo = await api.http.post(f"{path}/reverse", json={}, headers=api.headers(tenant=api.other))
    assert {(each.status_code, each.json()["code"]) for each in (read, undo)} == {(404, "unknown_exchange")}
    assert (await api.get("/v1/exchanges", tenant=api.other)).json()["data"] == []


async def test_the_list_goes_on_by_cursor(api: Harness) -> None:
    ids = [(await api.post("/v1/exchanges", order(api))).json()["id"] for _ in range(3)]
    first = (await api.get("/v1/exchanges", limit="2")).json()
    rest = (await api.get("/v1/exchanges", limit="2", cursor=first["next_cursor"])).json()
    assert [row["id"] for row in first["data"] + rest["data"]] == sorted(ids, reverse=True)
    assert rest["next_cursor"] is None


async def test_every_wrong_order_meets_a_typed_problem_and_changes_nothing(
    api: Harness, admin_dsn: str
) -> None:
    cases: list[tuple[dict[str, object], int, str, str | None]] = [
        ({"amount": "0"}, 422, "amount_not_positive", "/amount"),
        ({"amount": "1.5"}, 422, "malformed_amount", "/amount"),
        ({"amount": 1000}, 422, "invalid_input", "/amount"),
        ({"amount": "2"}, 422, "exchange_too_small", None),
        ({"amount": str(FUNDS + 1)}, 422, "insufficient_funds", None),
        ({"amount": str(FUNDS), "fee": "1"}, 422, "insufficient_funds", None),
        ({"fee": "0"}, 422, "amount_not_positive", "/fee"),
        ({"fee": "-1"}, 422, "amount_not_positive", "/fee"),
        ({"fee": OVER_UINT256}, 422, "amount_too_large", "/fee"),
        ({"asset": "nonsense"}, 422, "malformed_asset_id", "/asset"),
        ({"to_asset": "nonsense"}, 422, "malformed_asset_id", "/to_asset"),
        ({"to_asset": "fiat/USD"}, 422, "unknown_asset", None),
        ({"to_asset": XLM.text}, 422, "same_asset", None),
        ({"rounding": "half_even"}, 422, "invalid_input", "/rounding"),
        ({"rounding": None}, 422, "invalid_input", "/rounding"),
        ({"rate": rated(numerator="0")}, 422, "amount_not_positive", "/rate/numerator"),
        ({"rate": rated(denominator="0")}, 422, "amount_not_positive", "/rate/denominator"),
        ({"rate": rated(numerator="0.33")}, 422, "malformed_amount", "/rate/numerator"),
        ({"rate": rated(numerator=0.33)}, 422, "invalid_input", "/rate/numerator"),
        ({"rate": rated(numerator=OVER_UINT256)}, 422, "amount_too_large", "/rate/numerator"),
        (
            {"rate": rated(numerator=str(2**256 - 1), denominator="1"), "amount": "2"},
            422,
            "amount_too_large",
            None,
        ),
        ({"rate": rated(source="")}, 422, "invalid_input", "/rate/source"),
        ({"rate": rated(source="  ")}, 422, "bad_rate_source", "/rate/source"),
        ({"rate": rated(source="a\nb")}, 422, "bad_rate_source", "/rate/source"),
        ({"rate": rated(quoted_at="yesterday")}, 422, "bad_quote_time", "/rate/quoted_at"),
        ({"rate": rated(quoted_at="2026-01-15T10:15:00")}, 422, "bad_quote_time", "/rate/quoted_at"),
        ({"rate": rated(quoted_at="2026-02-30T10:15:00Z")}, 422, "bad_quote_time", "/rate/quoted_at"),
        ({"rate": rated(quoted_at="0001-01-01T00:00:00+23:59")}, 422, "bad_quote_time", "/rate/quoted_at"),
        ({"rate": rated(quoted_at="9999-01-01T00:00:00Z")}, 422, "bad_quote_time", None),
        ({"rate": rated(extra=1)}, 422, "invalid_input", "/rate/extra"),
        ({"rate": "1/3"}, 422, "invalid_input", "/rate"),
        ({"to_wallet_id": api.other.wallet}, 404, "unknown_wallet", None),
        ({"from_wallet_id": api.other.wallet}, 404, "unknown_wallet", None),
        ({"from_wallet_id": api.tenant.customer}, 422, "malformed_id", "/from_wallet_id"),
        ({"asset": ETH.text}, 422, "insufficient_funds", None),
        ({"extra": 1}, 422, "invalid_input", "/extra"),
    ]
    before = await api.row_counts(admin_dsn)
    for change, status, code, pointer in cases:
        refused = await api.post("/v1/exchanges", order(api, **change))
        found = refused.json()
        assert (refused.status_code, found["code"]) == (status, code), change
        pointers = [field["pointer"] for field in found["errors"]]
        assert pointers == ([] if pointer is None else [pointer]), change
    for path, status, code in (
        (f"/v1/exchanges/{NOBODY}/reverse", 404, "unknown_exchange"),
        ("/v1/exchanges/exc_1/reverse", 422, "malformed_id"),
    ):
        refused = await api.post(path, {})
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert await api.row_counts(admin_dsn) == before


async def test_a_transfer_shows_its_fee_in_rest_and_graphql(api: Harness) -> None:
    body = {
        "from_wallet_id": api.tenant.wallet,
        "to_wallet_id": api.tenant.empty_wallet,
        "asset": XLM.text,
        "amount": "250",
    }
    made = (await api.post("/v1/transfers", body | {"fee": "5"})).json()
    free = (await api.post("/v1/transfers", body)).json()
    assert (made["amount"]["atomic"], made["fee"]["atomic"], free["fee"]) == ("250", "5", None)
    assert (await api.get("/v1/transfers")).json()["data"] == [free, made]
    assert await balances(api, api.tenant.wallet) == {XLM.text: str(FUNDS - 505)}
    answer = await api.graphql("{ transfers { edges { node { id fee { atomic } } } } }")
    nodes = [edge["node"] for edge in answer["data"]["transfers"]["edges"]]
    assert nodes == [{"id": free["id"], "fee": None}, {"id": made["id"], "fee": {"atomic": "5"}}]
    for fee, code in (("0", "amount_not_positive"), ("1.0", "malformed_amount")):
        refused = (await api.post("/v1/transfers", body | {"fee": fee})).json()
        assert (refused["code"], refused["errors"][0]["pointer"]) == (code, "/fee")
    short = await api.post("/v1/transfers", body | {"amount": str(FUNDS - 505), "fee": "1"})
    assert (short.status_code, short.json()["code"]) == (422, "insufficient_funds")
