"""Subscriptions over real sockets, fed by a real relay: nothing missed, nothing of another tenant, and an end when a key ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest
from sqlalchemy import text
from websockets.exceptions import ConnectionClosed

from api.auth import Caller
from api.graphql.live import Frame, Watch
from api.graphql.vigil import TooManyStreams, Vigil
from custody.db.reader import ReaderLost
from custody.db.session import Database
from custody.events import outbox
from custody.events.hub import FollowerTooSlow
from custody.identity import service as identity
from custody.identity.errors import InvalidApiKey, InvalidToken, IssuerUnreachable, MissingScope
from custody.identity.model import Principal
from custody.kernel.ids import PrincipalId, TenantId, new_uuid
from tests.integration.api_harness import FUNDS, STRANGER, XLM, Harness, Tenant
from tests.integration.stream_stage import PATIENCE_S, Client, dialled, settled, streaming
from tests.postgres import Cluster

BALANCE = """subscription ($w: ID, $after: String) { balanceChanged(walletId: $w, after: $after) {
  sequence cause walletId wallet { name balances { available } } } }"""


@pytest.fixture(scope="module")
async def stage(cluster: Cluster) -> AsyncIterator[tuple[Harness, str]]:
    async with streaming(cluster) as made:
        yield made


async def transfer(api: Harness, tenant: Tenant | None = None, amount: str = "1") -> None:
    whose = tenant or api.tenant
    body = {
        "from_wallet_id": whose.wallet,
        "to_wallet_id": whose.empty_wallet,
        "asset": XLM.text,
        "amount": amount,
    }
    answer = await api.http.post("/v1/transfers", json=body, headers=api.headers(tenant=whose))
    assert answer.status_code == 201


async def test_a_change_is_told_and_whoever_resumes_has_missed_nothing(stage: tuple[Harness, str]) -> None:
    api, url = stage
    key = api.tenant.keys["read"]
    async with dialled(url, key) as client:
        await client.subscribe("one", BALANCE, w=api.tenant.wallet)
        await settled(client)
        await transfer(api, api.other)
        await transfer(api, amount="5")
        told = await client.next("balanceChanged")
        assert (told["cause"], told["walletId"]) == ("transfer.posted", api.tenant.wallet)
        assert told["wallet"] == {"name": "main", "balances": [{"available": str(FUNDS - 5)}]}
    for _ in range(3):
        await transfer(api)
    async with dialled(url, key) as client:
        await client.subscribe("two", BALANCE, w=api.tenant.empty_wallet, after=told["sequence"])
        missed = [await client.next("balanceChanged") for _ in range(3)]
        await transfer(api)
        live = await client.next("balanceChanged")
        places = [int(each["sequence"]) for each in (told, *missed, live)]
        assert places == sorted(set(places))
        assert {each["walletId"] for each in (*missed, live)} == {api.tenant.empty_wallet}
        await client.send(type="complete", id="two")
        await settled(client)


async def test_what_approvers_wait_for_comes_as_server_sent_events(stage: tuple[Harness, str]) -> None:
    api, url = stage
    headers = {**api.headers("read"), "Accept": "text/event-stream"}
    query = "subscription { approvalNeeded { sequence withdrawal { state policyTrace { missing } } } }"
    async with (
        httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http,
        http.stream("POST", "/graphql", json={"query": query}, headers=headers) as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        asking = asyncio.create_task(ask_until_told(api))
        lines = answer.aiter_lines()
        seen: list[str] = []
        while len(seen) < 3:
            line = await anext(lines)
            if line and not line.startswith(":"):
                seen.append(line)
        asking.cancel()
    kind, place, data = seen
    told = json.loads(data.removeprefix("data: "))["data"]["approvalNeeded"]
    assert kind == "event: next"
    assert place == f"id: {told['sequence']}"
    assert told["withdrawal"] == {"state": "awaiting_approval", "policyTrace": {"missing": 2}}
    refused = await api.http.post("/graphql", json={"query": query}, headers=api.headers("read"))
    assert (refused.status_code, refused.json()["code"]) == (422, "subscription_needs_stream")


async def say(client: Client, messages: tuple[object, ...]) -> None:
    """All of it, and then listen until the other side has had enough."""
    for each in messages:
        await client.line.send(each if isinstance(each, str | bytes) else json.dumps(each))
    while True:
        await client.receive()


async def ask_until_told(api: Harness) -> None:
    while True:
        body = {"wallet_id": api.tenant.wallet, "asset": XLM.text, "amount": "1", "destination": STRANGER}
        assert (await api.post("/v1/withdrawals", body)).status_code == 201
        await asyncio.sleep(0.2)


async def test_a_socket_ends_when_its_key_ends_and_when_its_client_breaks_the_rules(
    stage: tuple[Harness, str], cluster: Cluster
) -> None:
    api, url = stage
    good = api.tenant.keys["read"]
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        doomed = await identity.issue_api_key(uow, "doomed", ("read",))
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {good}"}}
    watch = {"type": "subscribe", "id": "a", "payload": {"query": BALANCE}}

    async def end_of(*messages: object, code: int) -> None:
        async with dialled(url, None, init=False) as client:
            with pytest.raises(ConnectionClosed):
                await say(client, messages)
            assert client.line.close_code == code, messages

    async def revoked() -> None:
        async with dialled(url, doomed.secret) as client:
            await client.subscribe("a", BALANCE)
            admin = Database(cluster.dsn(api.app.db.url.rpartition("/")[2]), pool_size=1)
            async with admin.engine.begin() as conn:
                revoke = text("UPDATE api_keys SET revoked_at = clock_timestamp() WHERE id = :id")
                await conn.execute(revoke, {"id": doomed.id})
            await admin.close()
            assert await client.end() == (4401, "invalid_api_key")

    await asyncio.gather(
        revoked(),
        end_of(code=4408),
        end_of("{", code=4400),
        end_of('{"type": "ping", "type": "ping"}', code=4400),
        end_of(b"\x00", code=4400),
        end_of({"type": "start"}, code=4400),
        end_of(watch, code=4401),
        end_of({"type": "connection_init", "payload": {"authorization": "Bearer x"}}, code=4403),
        end_of({"type": "connection_init"}, code=4403),
        end_of({"type": "connection_init", "payload": ["Bearer x"]}, code=4400),
        end_of(
            {"type": "connection_init", "payload": {"authorization": f"Bearer {api.tenant.keys['write']}"}},
            code=4403,
        ),
        end_of(init, init, code=4429),
        end_of(init, watch, watch, code=4409),
        end_of(init, "x" * 70_000, code=1009),
        end_of(init, *[{"type": "pong"}] * 250, code=4429),
    )


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"query": "subscription { nothing { id } }"}, "invalid_query"),
        ({"query": BALANCE, "variables": {"w": "wal_1"}}, "malformed_id"),
        ({"query": BALANCE, "variables": {"after": "-1"}}, "malformed_cursor"),
        ({"query": BALANCE, "variables": {"w": 1.5}}, "invalid_query"),
        ({"query": 7}, "malformed_operation"),
        ({}, "no_document"),
    ],
)
async def test_an_operation_that_cannot_begin_is_refused_and_the_socket_goes_on(
    stage: tuple[Harness, str], payload: dict[str, object], code: str
) -> None:
    api, url = stage
    async with dialled(url, api.tenant.keys["read"]) as client:
        await client.send(type="subscribe", id="bad", payload=payload)
        answer = await client.receive()
        assert (answer["type"], answer["id"]) == ("error", "bad")
        assert [each["extensions"]["code"] for each in answer["payload"]] == [code]
        await settled(client)


async def test_who_does_not_keep_up_is_cut_off_and_may_resume(stage: tuple[Harness, str]) -> None:
    api, _ = stage
    streams = api.asgi.state.streams
    principal = await identity.authenticate(api.app.db, api.tenant.keys["read"])
    prepared = streams.graph.documents.find("subscription { balanceChanged { sequence walletId } }", None)
    caller = Caller(app=api.app, principal=principal)
    watch = Watch(caller=caller, prepared=prepared, variables={}, operation=None, trace_id="t")
    frames = streams.live.watch(watch)
    first = asyncio.ensure_future(anext(frames))
    while not first.done():
        await transfer(api)
        await asyncio.sleep(0.05)
    last = first.result().position
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        for _ in range(400):
            await outbox.emit(uow, "receipt.credited", new_uuid(), {"wallet_id": str(new_uuid())})
    seen = [last]
    with pytest.raises(FollowerTooSlow):
        await read_slowly(frames, seen)
    resumed = []
    async for frame in streams.live.watch(replace(watch, after=str(seen[-1]))):
        resumed.append(frame.position)
        if len(resumed) == 100:
            break
    assert resumed == list(range(seen[-1] + 1, seen[-1] + 101))


async def read_slowly(frames: AsyncIterator[Frame], seen: list[int]) -> None:
    """The channel is faster."""
    async with asyncio.timeout(PATIENCE_S):
        async for frame in frames:
            seen.append(frame.position or 0)
            await asyncio.sleep(0.002)


async def test_what_is_open_is_counted_and_why_it_ended(stage: tuple[Harness, str]) -> None:
    api, url = stage

    def counted(what: str, transport: str, **labels: str) -> float:
        registry = api.asgi.state.metrics.registry
        found = registry.get_sample_value(f"custody_api_{what}", {"transport": transport, **labels})
        return float(found or 0)

    async def until_open(transport: str, streams: int) -> None:
        for _ in range(PATIENCE_S * 100):
            if counted("streams_open", transport) == counted("subscriptions_open", transport) == streams:
                return
            await asyncio.sleep(0.01)
        pytest.fail(f"never {streams} streams by {transport}")

    await until_open("websocket", 0)
    left, broken, told = (
        counted("streams_closed_total", "websocket", reason="client_left"),
        counted("streams_closed_total", "websocket", reason="protocol"),
        counted("deliveries_total", "websocket"),
    )
    async with dialled(url, api.tenant.keys["read"]) as client:
        for name in ("one", "two"):
            await client.subscribe(name, BALANCE, w=api.tenant.wallet)
        await settled(client)
        assert (counted("streams_open", "websocket"), counted("subscriptions_open", "websocket")) == (1, 2)
        await transfer(api)
        for _ in range(2):
            await client.next("balanceChanged")
        assert counted("deliveries_total", "websocket") == told + 2
    async with dialled(url, None, init=False) as client:
        with pytest.raises(ConnectionClosed):
            await say(client, ("{",))
    await until_open("websocket", 0)
    assert counted("streams_closed_total", "websocket", reason="client_left") == left + 1
    assert counted("streams_closed_total", "websocket", reason="protocol") == broken + 1
    async with (
        httpx.AsyncClient(base_url=url, timeout=PATIENCE_S) as http,
        http.stream(
            "POST",
            "/graphql",
            json={"query": "subscription { balanceChanged { sequence } }"},
            headers={**api.headers("read"), "Accept": "text/event-stream"},
        ),
    ):
        await until_open("sse", 1)
    await until_open("sse", 0)


async def test_a_principal_has_so_many_streams_and_no_more() -> None:
    vigil = Vigil(identity.authenticate, 1)  # type: ignore[arg-type]  # nobody is asked for here
    principal = Principal(tenant=TenantId(1), id=PrincipalId(new_uuid()), subject="s", scopes=frozenset())
    with vigil.place(principal), pytest.raises(TooManyStreams), vigil.place(principal):
        pass
    with vigil.place(principal):
        pass


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidApiKey(), "invalid_api_key"),
        (InvalidToken(reason="expired"), "invalid_token"),
        (MissingScope(permission="events:watch"), "missing_scope"),
        (IssuerUnreachable(), "authorization_unknown"),
        (ReaderLost(), "authorization_unknown"),
        (RuntimeError("a defect of ours"), "authorization_unknown"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else str(each),
)
async def test_whatever_comes_of_asking_for_a_credential_again_nobody_goes_on_unwatched(
    error: Exception, code: str
) -> None:
    async def authenticate(_: str) -> Principal:
        raise error

    principal = Principal(tenant=TenantId(1), id=PrincipalId(new_uuid()), subject="s", scopes=frozenset())
    vigil = Vigil(authenticate, 1, every_s=0)
    async with asyncio.timeout(PATIENCE_S), vigil.over("any", principal) as end:
        assert (await end).code == code
