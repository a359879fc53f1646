"""What holds for every endpoint: keys, scopes, bodies, idempotency, correlation, limits."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from custody.db.session import Database
from custody.events import outbox
from custody.events.relay import relay
from custody.events.trace import traced
from custody.events.wakeup import Waker
from custody.kernel.clock import SystemClock
from custody.kernel.ids import TenantId, show_id
from tests.integration.api_harness import CALLBACK_SECRET, FUNDS, STRANGER, XLM, Harness, running

CUSTOMER = {"name": "Grace", "external_ref": "grace"}


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def test_without_a_valid_key_nothing_is_answered(api: Harness) -> None:
    for authorization in (None, "Bearer ", "Bearer nonsense", "Bearer ck_" + "A" * 43, "Basic Y2s6eA=="):
        headers = {"Idempotency-Key": "k"} | (
            {} if authorization is None else {"Authorization": authorization}
        )
        for answer in (
            await api.http.get("/v1/customers", headers=headers),
            await api.http.post("/v1/customers", json=CUSTOMER, headers=headers),
            await api.http.post("/graphql", json={"query": "{ assets { id } }"}, headers=headers),
        ):
            assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key"), authorization
            assert answer.headers["www-authenticate"] == "Bearer"


ROUTES = [
    ("GET", "/v1/customers", {"read"}),
    ("GET", "/v1/wallets/wal_1", {"read"}),
    ("GET", "/v1/vaults", {"read"}),
    ("GET", "/v1/deposit-pool", {"read"}),
    ("GET", "/v1/assets", {"read"}),
    ("GET", "/v1/transfers", {"read"}),
    ("GET", "/v1/withdrawals", {"read"}),
    ("GET", "/v1/approvals", {"read", "approve"}),
    ("GET", "/v1/payouts", {"read"}),
    ("GET", "/v1/bank-accounts", {"read"}),
    ("GET", "/v1/receipts", {"read"}),
    ("GET", "/v1/audit-events", {"read"}),
    ("GET", "/v1/chains", {"read"}),
    ("POST", "/graphql", {"read"}),
    ("POST", "/v1/customers", {"write"}),
    ("POST", "/v1/wallets", {"write"}),
    ("POST", "/v1/wallets/wal_1/addresses", {"write"}),
    ("POST", "/v1/wallets/wal_1/payment-reference", {"write"}),
    ("POST", "/v1/transfers", {"write"}),
    ("POST", "/v1/withdrawals", {"write"}),
    ("POST", "/v1/withdrawals/wdr_1/cancel", {"write"}),
    ("POST", "/v1/payouts", {"write"}),
    ("POST", "/v1/payouts/pay_1/cancel", {"write"}),
    ("POST", "/v1/vaults", {"operate"}),
    ("POST", "/v1/vaults/vlt_1/trustlines", {"operate"}),
    ("POST", "/v1/assets", {"operate"}),
    ("POST", "/v1/bank-accounts", {"operate"}),
    ("POST", "/v1/approvals/wdr_1/decisions", {"approve"}),
    ("GET", "/v1/cases", {"read"}),
    ("GET", "/v1/cases/cas_1", {"read"}),
    ("GET", "/v1/deposit-rules", {"read"}),
    ("GET", "/v1/vaults/vlt_1/memo-required", {"read"}),
    ("POST", "/v1/vaults/vlt_1/memo-required", {"operate"}),
    ("POST", "/v1/cases/cas_1/assign", {"operate"}),
    ("POST", "/v1/cases/cas_1/return", {"operate"}),
    ("POST", "/v1/cases/cas_1/dismiss", {"operate"}),
    ("POST", "/v1/deposit-rules", {"operate"}),
]
"""Method, path, and the scopes that open it."""


async def test_each_route_opens_to_its_scopes_and_to_no_other(api: Harness) -> None:
    found = [(method, path, await opening(api, method, path)) for method, path, _ in ROUTES]
    assert found == ROUTES


async def opening(api: Harness, method: str, path: str) -> set[str]:
    """The scopes that a route lets through."""
    opened = set()
    query = {"query": "{ assets { id } }"} if path == "/graphql" else {}
    for scope in ("read", "write", "approve", "operate"):
        body = {"json": query} if method == "POST" else {}
        answer = await api.http.request(method, path, headers=api.headers(scope), **body)
        if answer.status_code == 403:
            assert answer.json()["code"] == "missing_scope"
        else:
            opened.add(scope)
    return opened


BODIES = [
    (b"{", "application/json", 400, "malformed_json"),
    (b"", "application/json", 422, "invalid_input"),
    (b"\xff\xfe", "application/json", 400, "malformed_json"),
    (b'{"name": NaN}', "application/json", 400, "malformed_json"),
    (b'{"name": ' + b"9" * 5000 + b"}", "application/json", 400, "malformed_json"),
    (b"[" * 20_000, "application/json", 400, "malformed_json"),
    (b"[" * 60 + b"]" * 60, "application/json", 422, "invalid_input"),
    (b"[" * 500 + b"]" * 500, "application/json", 400, "malformed_json"),
    (b'{"name": "a", "name": "b", "external_ref": "x"}', "application/json", 400, "duplicate_json_key"),
    (b'{"a": {"b": 1, "b": 2}}', "application/json", 400, "duplicate_json_key"),
    (b'{"name": "a", "external_ref": "x"}', "text/plain", 415, "unsupported_media_type"),
    (b"name=a", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    (b"{}" + b" " * 70_000, "application/json", 413, "body_too_large"),
]
"""Raw body, its declared type, and the problem that it must meet."""


async def test_a_body_that_is_not_strict_json_is_refused(api: Harness, admin_dsn: str) -> None:
    before = await api.row_counts(admin_dsn)
    for raw, content_type, status, code in BODIES:
        headers = api.headers() | {"Content-Type": content_type}
        answer = await api.http.post("/v1/customers", content=raw, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), raw[:40]
        assert answer.headers["content-type"] == "application/problem+json"
    assert await api.row_counts(admin_dsn) == before


async def test_a_body_without_a_length_is_cut_off_at_the_limit(api: Harness) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 8192

    answer = await api.http.post("/v1/customers", content=endless(), headers=api.headers())
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_command_without_a_usable_key_is_refused(api: Harness, admin_dsn: str) -> None:
    before = await api.row_counts(admin_dsn)
    for key in (None, "", "a" * 129, "with space", "\u00e9"):
        headers: dict[str, str | bytes] = dict(api.headers())
        del headers["Idempotency-Key"]
        if key is not None:
            headers["Idempotency-Key"] = key.encode()
        answer = await api.http.post("/v1/customers", json=CUSTOMER, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "idempotency_key_missing"), key
    assert await api.row_counts(admin_dsn) == before


async def test_a_used_key_with_another_body_route_or_spelling(api: Harness, admin_dsn: str) -> None:
    first = await api.post("/v1/customers", CUSTOMER, key="k")
    before = await api.row_counts(admin_dsn)
    other_body = await api.post("/v1/customers", CUSTOMER | {"name": "Eve"}, key="k")
    other_route = await api.post("/v1/wallets", {"customer_id": first.json()["id"], "name": "x"}, key="k")
    other_spelling = await api.http.post(
        "/v1/customers",
        content=b' { "external_ref" : "grace", "name":"Gr\\u0061ce" } ',
        headers=api.headers(key="k") | {"Content-Type": "application/json"},
    )
    assert [(each.status_code, each.json()["code"]) for each in (other_body, other_route)] == [
        (422, "idempotency_key_reused")
    ] * 2
    assert (other_spelling.status_code, other_spelling.json()) == (201, first.json())
    assert await api.row_counts(admin_dsn) == before


async def test_keys_of_different_principals_and_tenants_do_not_meet(api: Harness) -> None:
    answers = [
        await api.http.post("/v1/customers", json={"name": n, "external_ref": n}, headers=headers)
        for n, headers in (
            ("one", api.headers("all", "k")),
            ("two", api.headers("write", "k")),
            ("three", api.headers("all", "k", api.other)),
        )
    ]
    assert [each.status_code for each in answers] == [201, 201, 201]


async def test_a_refusal_leaves_the_key_free_for_another_try(api: Harness) -> None:
    body = {
        "from_wallet_id": api.tenant.empty_wallet,
        "to_wallet_id": api.tenant.wallet,
        "asset": XLM.text,
        "amount": "1",
    }
    assert (await api.post("/v1/transfers", body, key="k")).json()["code"] == "insufficient_funds"
    back = {**body, "from_wallet_id": api.tenant.wallet, "to_wallet_id": api.tenant.empty_wallet}
    assert (await api.post("/v1/transfers", back)).status_code == 201
    assert (await api.post("/v1/transfers", body, key="k")).status_code == 201


@pytest.mark.parametrize("kind", ["transfer", "withdrawal", "address"])
async def test_twenty_callers_with_one_key_see_one_effect(api: Harness, kind: str) -> None:
    wallet = api.tenant.wallet
    path, body = {
        "transfer": (
            "/v1/transfers",
            {
                "from_wallet_id": wallet,
                "to_wallet_id": api.tenant.empty_wallet,
                "asset": XLM.text,
                "amount": "10",
            },
        ),
        "withdrawal": (
            "/v1/withdrawals",
            {"wallet_id": wallet, "asset": XLM.text, "amount": "10", "destination": STRANGER},
        ),
        "address": (f"/v1/wallets/{wallet}/addresses", {"chain": "eip155:31337"}),
    }[kind]
    answers = await asyncio.gather(*(api.post(path, body, key="one") for _ in range(20)))
    assert {each.status_code for each in answers} == {201}
    assert len({each.content for each in answers}) == 1
    assert sum("idempotency-replayed" not in each.headers for each in answers) == 1
    rows = (await api.get(f"/v1/wallets/{wallet}/balances")).json()["data"]
    (xlm,) = [row for row in rows if row["asset"] == XLM.text]
    assert int(xlm["available"]) == FUNDS - (0 if kind == "address" else 10)
    listed = (await api.get(f"/v1/wallets/{wallet}/addresses")).json()["data"]
    assert len(listed) == (1 if kind == "address" else 0)


async def test_the_correlation_id_goes_in_and_out(api: Harness) -> None:
    given = await api.http.get("/v1/assets", headers=api.headers() | {"X-Request-Id": "trace.42"})
    wild = await api.http.get("/v1/assets", headers=api.headers() | {"X-Request-Id": "a b\x00"[:3]})
    refused = await api.http.get("/v1/assets", headers={"X-Request-Id": "trace.43"})
    assert given.headers["x-request-id"] == "trace.42"
    assert wild.headers["x-request-id"] != "a b"
    assert refused.json()["trace_id"] == refused.headers["x-request-id"] == "trace.43"


async def test_the_correlation_id_goes_on_with_what_the_request_caused(api: Harness) -> None:
    heard: list[tuple[str, str | None]] = []

    class Listener(Waker):
        async def wake(
            self, job: str, tenant: TenantId, object_id: UUID, trace_id: str | None = None
        ) -> bool:
            heard.append((job, trace_id))
            return True

    body = {"wallet_id": api.tenant.wallet, "asset": XLM.text, "amount": "1", "destination": STRANGER}
    headers = api.headers() | {"X-Request-Id": "trace-99"}
    asked = (await api.http.post("/v1/withdrawals", json=body, headers=headers)).json()
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        events = await outbox.take_unrelayed(uow, 100)
    caused = [event.trace_id for event in events if asked["id"] == show_id("wdr", event.object_id)]
    assert caused == ["trace-99"] * 3
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        with traced("trace-100"):
            await outbox.emit(uow, "withdrawal.approved", UUID(int=1), {})
    await relay(api.app.db, Listener("redis://127.0.0.1:1/0"), api.tenant.id)
    assert heard == [("advance_withdrawal", "trace-100")]


READS = [
    ("/v1/customers?cursor=x", "malformed_cursor", 400),
    ("/v1/customers?cursor=YXVkaXQ6MQ", "malformed_cursor", 400),
    ("/v1/audit-events?cursor=Y3VzdG9tZXJzOjE", "malformed_cursor", 400),
    ("/v1/customers?limit=0", "invalid_input", 422),
    ("/v1/customers?limit=101", "invalid_input", 422),
    ("/v1/approvals?state=gone", "invalid_input", 422),
    ("/v1/nothing", "not_found", 404),
    ("/v1/customers/cus_1", "malformed_id", 422),
]
"""Path, and the problem that reading it must meet."""


async def test_a_wrong_read_meets_its_problem(api: Harness) -> None:
    for path, code, status in READS:
        answer = await api.http.get(path, headers=api.headers())
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_wrong_method_is_a_problem_too(api: Harness) -> None:
    answer = await api.http.delete("/v1/customers", headers=api.headers())
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_without_a_database_the_answer_is_to_try_again(api: Harness) -> None:
    await api.app.db.close()
    broken = Database("postgresql://nobody@127.0.0.1:1/none")
    object.__setattr__(api.app, "db", broken)
    answer = await api.http.get("/v1/assets", headers=api.headers())
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert "127.0.0.1" not in answer.text
    ready = await api.http.get("/readyz")
    assert ready.status_code == 503
    assert (await api.http.get("/livez")).status_code == 200


async def test_a_forged_or_unsigned_callback_changes_nothing(api: Harness, admin_dsn: str) -> None:
    before = await api.row_counts(admin_dsn)
    unsigned = await api.http.post("/v1/rails/sandbox/callbacks", content=b"{}")
    forged = await api.http.post(
        "/v1/rails/sandbox/callbacks",
        content=b"{}",
        headers=signed(b"{}", secret=b"another secret of 32 bytes......"),
    )
    altered = await api.http.post("/v1/rails/sandbox/callbacks", content=b"{ }", headers=signed(b"{}"))
    unknown = await api.http.post("/v1/rails/nobody/callbacks", content=b"{}", headers=signed(b"{}"))
    assert [each.status_code for each in (unsigned, forged, altered, unknown)] == [401, 401, 401, 404]
    malformed = await api.http.post("/v1/rails/sandbox/callbacks", content=b"{}", headers=signed(b"{}"))
    assert (malformed.status_code, malformed.json()["code"]) == (422, "malformed_callback")
    assert await api.row_counts(admin_dsn) == before


def signed(raw: bytes, secret: bytes | None = None) -> dict[str, str]:
    """Headers of a callback. Source: Standard Webhooks."""
    now = int(SystemClock().now().timestamp())
    key = base64.b64decode(CALLBACK_SECRET.removeprefix("whsec_")) if secret is None else secret
    mark = hmac.new(key, b"msg_1." + str(now).encode() + b"." + raw, hashlib.sha256).digest()
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(now),
        "webhook-signature": "v1," + base64.b64encode(mark).decode(),
    }
