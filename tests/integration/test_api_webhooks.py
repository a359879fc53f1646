"""Webhooks over the API: endpoints, secrets shown once, the log, replays, the feed, and what another tenant sees: nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from custody.db.session import Database
from custody.events.relay import relay
from custody.webhooks import service as webhooks
from custody.webhooks.loop import Dispatcher
from custody.webhooks.sealed import build_box
from custody.webhooks.sender import Sender, SystemResolver
from tests.fakes.webhook_receiver import receiving
from tests.integration.api_harness import XLM, Harness, Tenant, running

ENDPOINTS = "/v1/webhook-endpoints"
DELIVERIES = "/v1/webhook-deliveries"
GOOD = {"url": "https://receiver.example/hook", "types": ["withdrawal.*"], "description": "books"}
NOBODY = "0" * 32


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def create(api: Harness, **changes: object) -> dict[str, Any]:
    answer = await api.post(ENDPOINTS, GOOD | changes, scope="operate")
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def transfer(api: Harness) -> None:
    body = {
        "from_wallet_id": api.tenant.wallet, "to_wallet_id": api.tenant.empty_wallet, "asset": XLM.text, "amount": "1",
    }  # fmt: skip
    assert (await api.post("/v1/transfers", body)).status_code == 201


async def work(api: Harness, tenant: Tenant | None = None) -> None:
    """What the worker does: relay, then send until nothing is due."""
    chosen = api.app.settings.webhooks
    assert chosen is not None
    while await relay(api.app.db, api.app.waker, (tenant or api.tenant).id, webhooks.fan_out):
        pass
    dispatcher = Dispatcher(
        api.app.db, Sender(chosen, SystemResolver()), build_box(chosen), api.app.clock, chosen.timeout_s
    )
    begun = 1
    while begun:
        async with asyncio.TaskGroup() as group:
            begun = await dispatcher.round(group)


async def test_a_secret_is_shown_once_and_stands_nowhere_in_the_database(
    api: Harness, admin_dsn: str
) -> None:
    first = await api.post(ENDPOINTS, GOOD, key="same", scope="operate")
    again = await api.post(ENDPOINTS, GOOD, key="same", scope="operate")
    assert (first.status_code, again.status_code) == (201, 201)
    secret = first.json()["secret"]
    assert secret.startswith("whsec_")
    assert again.json() == first.json() | {"secret": None}
    assert again.headers["idempotency-replayed"] == "true"
    path = f"{ENDPOINTS}/{first.json()['id']}"
    assert "secret" not in (await api.get(path)).json()
    rotated = await api.post(f"{path}/rotate-secret", {}, key="turn", scope="operate")
    assert rotated.status_code == 200
    assert rotated.json()["secret"] not in (None, secret)
    assert rotated.json()["old_secret_until"] is not None
    assert (await api.post(f"{path}/rotate-secret", {}, key="turn", scope="operate")).json()["secret"] is None
    assert (await api.post(f"{path}/rotate-secret", {}, key="same", scope="operate")).status_code == 422
    admin = Database(admin_dsn, pool_size=2)
    async with admin.engine.connect() as conn:
        for table in ("idempotency_keys", "audit_entries", "webhook_endpoints", "webhook_secrets", "outbox"):
            rows = str(
                (
                    await conn.exec_driver_sql(
                        f"SELECT x::text, encode(x::text::bytea, 'escape') FROM {table} x"
                    )
                ).all()
            )
            for shown in (secret, rotated.json()["secret"]):
                assert shown not in rows
                assert shown.removeprefix("whsec_") not in rows
    await admin.close()


async def test_events_arrive_the_log_tells_how_and_a_replay_sends_them_again(api: Harness) -> None:
    async with receiving() as receiver:
        receiver.answers = [200]
        made = await create(api, url=receiver.url(path="/hook?token=t0p"), types=["transfer.posted"])
        await transfer(api)
        await work(api)
        (got,) = receiver.received
        assert got.verifies_with(made["secret"])
        feed = (await api.get("/v1/events", type="transfer.posted")).json()["data"]
        assert feed == [got.event]
        (shown,) = (await api.get(DELIVERIES, endpoint_id=made["id"], state="delivered")).json()["data"]
        assert (shown["event_id"], shown["type"], shown["last_status"]) == (got.id, "transfer.posted", 200)
        for query, found in (({"event_id": got.id}, [shown]), ({"event_id": "evt_" + NOBODY}, [])):
            assert (await api.get(DELIVERIES, **query)).json()["data"] == found
        assert (shown["attempts"], shown["next_attempt_at"], shown["last_error"]) == (1, None, None)
        whole = (await api.get(f"{DELIVERIES}/{shown['id']}")).json()
        assert [(each["number"], each["outcome"]) for each in whole["log"]] == [(1, "delivered")]
        queued = await api.post(f"{DELIVERIES}/{shown['id']}/replay", {}, key="again", scope="operate")
        assert (queued.status_code, queued.json()["state"]) == (200, "waiting")
        open_still = await api.post(f"{DELIVERIES}/{shown['id']}/replay", {}, scope="operate")
        assert (open_still.status_code, open_still.json()["code"]) == (409, "webhook_delivery_open")
        await work(api)
        body = {"first_sequence": 1, "last_sequence": 50, "delivered": True}
        ranged = await api.post(f"{ENDPOINTS}/{made['id']}/replay", body, scope="operate")
        assert (ranged.status_code, ranged.json()) == (200, {"queued": 1})
        await work(api)
        assert len(receiver.received) == 3
        assert {each.id for each in receiver.received} == {got.id}
        found = (await api.get(f"{ENDPOINTS}/{made['id']}")).json()
        assert (found["delivered"], found["failed"], found["state"]) == (3, 0, "active")
        scraped = (await api.http.get("/metrics")).text
        assert 'custody_webhook_attempts{outcome="delivered"} 3.0' in scraped
        assert 'custody_webhook_endpoints{state="active"} 1.0' in scraped
        assert "custody_webhook_lag_seconds 0.0" in scraped
        audited = json.dumps((await api.get("/v1/audit-events", limit="100")).json()["data"])
        assert "webhook_endpoint.create" in audited
        assert "t0p" not in audited


async def test_an_endpoint_changes_rests_wakes_and_ends(api: Harness) -> None:
    made = await create(api)
    path = f"{ENDPOINTS}/{made['id']}"

    async def patch(body: object, key: str | None = None) -> Any:
        return await api.http.patch(path, json=body, headers=api.headers("operate", key))

    changed = await patch({"types": ["*", "*"], "description": "all"}, "p")
    assert changed.status_code == 200, changed.text
    assert (changed.json()["types"], changed.json()["url"]) == (["*"], GOOD["url"])
    assert (await patch({"types": ["*", "*"], "description": "all"}, "p")).json() == changed.json()
    for verb, state, reason in (
        ("disable", "disabled", "operator"), ("disable", "disabled", "operator"), ("enable", "active", None),
        ("enable", "active", None),
    ):  # fmt: skip
        answer = await api.post(f"{path}/{verb}", {}, scope="operate")
        assert (answer.status_code, answer.json()["state"], answer.json()["reason"]) == (200, state, reason)
    gone = await api.http.delete(path, headers=api.headers("operate", "d"))
    assert (gone.status_code, gone.json()["state"]) == (200, "deleted")
    assert (await api.http.delete(path, headers=api.headers("operate", "d"))).json() == gone.json()
    assert (await api.http.delete(path, headers=api.headers("operate"))).json() == gone.json()
    assert [row["id"] for row in (await api.get(ENDPOINTS)).json()["data"]] == [made["id"]]
    for answer in (
        await patch({"types": ["*"]}),
        await api.post(f"{path}/enable", {}),
        await api.post(f"{path}/rotate-secret", {}),
        await api.post(f"{path}/replay", {"first_sequence": 1, "last_sequence": 1}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown_webhook_endpoint")


async def test_bad_input_meets_its_problem_and_changes_nothing(api: Harness, admin_dsn: str) -> None:
    made = await create(api)
    path = f"{ENDPOINTS}/{made['id']}"
    before = await api.row_counts(admin_dsn)
    for change, code, pointer in (
        ({"url": "ftp://receiver.example"}, "webhook_url_refused", "/url"),
        ({"url": "https://10.0.0.1/"}, "webhook_url_refused", "/url"),
        ({"url": "https://a:b@receiver.example/"}, "webhook_url_refused", "/url"),
        ({"url": ""}, "invalid_input", "/url"),
        ({"types": []}, "invalid_input", "/types"),
        ({"types": ["withdrawal"]}, "unknown_event_type", "/types"),
        ({"types": ["withdrawal.*", "nothing.*"]}, "unknown_event_type", "/types"),
        ({"types": "*"}, "invalid_input", "/types"),
        ({"secret": "whsec_mine"}, "invalid_input", "/secret"),
    ):
        for answer in (
            await api.post(ENDPOINTS, GOOD | change, scope="operate"),
            await api.http.patch(path, json=change, headers=api.headers("operate")),
        ):
            assert (answer.status_code, answer.json()["code"]) == (422, code), change
            assert [each["pointer"] for each in answer.json()["errors"]] == [pointer]
    for suffix, body, status, code in (
        ("/rotate-secret", {"overlap_s": -1}, 422, "invalid_input"),
        ("/rotate-secret", {"overlap_s": 604801}, 422, "invalid_input"),
        ("/replay", {"first_sequence": 5, "last_sequence": 4}, 422, "replay_range_refused"),
        ("/replay", {"first_sequence": 1, "last_sequence": 5001}, 422, "replay_range_refused"),
        ("/replay", {"first_sequence": 0, "last_sequence": 1}, 422, "invalid_input"),
        ("/disable", {"why": 1}, 422, "invalid_input"),
    ):
        answer = await api.post(path + suffix, body, scope="operate")
        assert (answer.status_code, answer.json()["code"]) == (status, code), suffix
    for wrong, code in (
        (f"{ENDPOINTS}/whe_1", "malformed_id"),
        (f"{ENDPOINTS}/whe_{NOBODY}", "unknown_webhook_endpoint"),
        (f"{DELIVERIES}/whd_{NOBODY}", "unknown_webhook_delivery"),
        (f"{DELIVERIES}?endpoint_id=x", "malformed_id"),
        (f"{DELIVERIES}?event_id=x", "malformed_id"),
        (f"{DELIVERIES}?state=lost", "invalid_input"),
        (f"{DELIVERIES}?cursor=x", "malformed_cursor"),
        ("/v1/events?type=nothing", "unknown_event_type"),
        ("/v1/events?after_sequence=-1", "invalid_input"),
        ("/v1/events?after_sequence=9223372036854775808", "invalid_input"),
        ("/v1/events?cursor=x", "malformed_cursor"),
    ):
        assert (await api.http.get(wrong, headers=api.headers())).json()["code"] == code, wrong
    for scope in ("read", "write", "approve"):
        assert (await api.post(ENDPOINTS, GOOD, scope=scope)).status_code == 403
        assert (await api.http.delete(path, headers=api.headers(scope))).status_code == 403
    assert (await api.get("/v1/events", scope="write")).status_code == 403
    assert await api.row_counts(admin_dsn) == before


async def test_a_tenant_has_so_many_endpoints_and_no_more(api: Harness) -> None:
    made = [await create(api) for _ in range(50)]
    full = await api.post(ENDPOINTS, GOOD, scope="operate")
    assert (full.status_code, full.json()["code"]) == (422, "too_many_webhook_endpoints")
    await api.http.delete(f"{ENDPOINTS}/{made[0]['id']}", headers=api.headers("operate"))
    await create(api)
    seen, cursor = [], {}
    while True:
        page = (await api.get(ENDPOINTS, limit="20", **cursor)).json()
        seen += [row["id"] for row in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert len(seen) == len(set(seen)) == 51


async def test_the_feed_is_read_in_pages_without_gaps_and_matches_its_schemas(api: Harness) -> None:
    for _ in range(4):
        await transfer(api)
    await work(api)
    first = (await api.get("/v1/events", limit="3")).json()
    rows, cursor = first["data"], first["next_cursor"]
    while cursor is not None:
        page = (await api.get("/v1/events", limit="3", cursor=cursor)).json()
        rows, cursor = rows + page["data"], page["next_cursor"]
    assert [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
    assert {"ledger.posted", "transfer.posted"} <= {row["type"] for row in rows}
    behind = (await api.get("/v1/events", after_sequence=str(len(rows) - 1))).json()["data"]
    assert behind == rows[-1:]
    query = """query ($after: String) { events(first: 3, after: $after, types: ["transfer.posted"]) {
      edges { node { id type sequence objectId data } } pageInfo { hasNextPage endCursor } } }"""
    page = (await api.graphql(query))["data"]["events"]
    rest = (await api.graphql(query, after=page["pageInfo"]["endCursor"]))["data"]["events"]
    moved = [row for row in rows if row["type"] == "transfer.posted"]
    nodes = [edge["node"] for edge in page["edges"] + rest["edges"]]
    assert [(node["id"], json.loads(node["data"])) for node in nodes] == [(r["id"], r["data"]) for r in moved]
    wrong = await api.graphql('{ events(types: ["nothing"]) { edges { cursor } } }')
    assert wrong["errors"][0]["extensions"]["code"] == "unknown_event_type"
    assert (await api.graphql(query, tenant=api.other))["data"]["events"]["edges"] == []
    document = json.loads((Path(__file__).parents[2] / "api" / "events.json").read_text())
    for row in rows:
        Draft202012Validator(document["$defs"][row["type"]]).validate(row)
        Draft202012Validator(document).validate(row)


async def test_another_tenant_sees_and_moves_nothing(api: Harness) -> None:
    async with receiving() as receiver:
        made = await create(api, url=receiver.url(), types=["*"])
        await transfer(api)
        await work(api)
    (delivery,) = (await api.get(DELIVERIES, limit="1")).json()["data"]
    for path in (f"{ENDPOINTS}/{made['id']}", f"{DELIVERIES}/{delivery['id']}"):
        assert (await api.get(path, tenant=api.other)).status_code == 404
    for path in (ENDPOINTS, DELIVERIES, "/v1/events"):
        assert (await api.get(path, tenant=api.other)).json()["data"] == []
    assert (await api.get(DELIVERIES, tenant=api.other, endpoint_id=made["id"])).json()["data"] == []
    headers = api.headers(tenant=api.other)
    for method, path, body in (
        ("PATCH", f"{ENDPOINTS}/{made['id']}", {"types": ["*"]}),
        ("POST", f"{ENDPOINTS}/{made['id']}/disable", {}),
        ("POST", f"{ENDPOINTS}/{made['id']}/rotate-secret", {}),
        ("POST", f"{ENDPOINTS}/{made['id']}/replay", {"first_sequence": 1, "last_sequence": 9}),
        ("DELETE", f"{ENDPOINTS}/{made['id']}", None),
        ("POST", f"{DELIVERIES}/{delivery['id']}/replay", {}),
    ):
        fresh = headers | {"Idempotency-Key": method + path[-20:]}
        assert (await api.http.request(method, path, json=body, headers=fresh)).status_code == 404


async def test_without_a_configuration_nothing_can_be_made_and_all_can_be_read(api: Harness) -> None:
    made = await create(api)
    bare = api.app.settings.model_copy(update={"webhooks": None})
    object.__setattr__(api.app, "settings", bare)
    for answer in (
        await api.post(ENDPOINTS, GOOD),
        await api.post(f"{ENDPOINTS}/{made['id']}/rotate-secret", {}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "webhooks_not_configured")
    assert len((await api.get(ENDPOINTS)).json()["data"]) == 1
