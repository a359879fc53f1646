"""The clients that partners start from: the Python package with its examples, GraphQL documents, and the request collection."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from custody.identity import service as identity
from scripts import make_client, make_collection
from tests.integration.api_harness import XLM, Harness
from tests.integration.api_server import served

CLIENTS = Path(__file__).parents[2] / "clients"


@pytest.fixture(scope="module", autouse=True)
def package() -> Iterator[None]:
    """The client as somebody has it who installed it."""
    sys.path[:0] = [str(CLIENTS / "python"), str(CLIENTS / "python" / "examples")]
    yield
    del sys.path[:2]


@pytest.fixture(scope="module")
async def url(shared_api: Harness) -> AsyncIterator[str]:
    async with served(shared_api.asgi) as address:
        yield address


def module(name: str) -> Any:
    return importlib.import_module(name)


def test_what_is_generated_is_fresh() -> None:
    assert [
        path.name for path, text in make_client.generated().items() if path.read_text("utf-8") != text
    ] == []
    made = make_collection.files()
    assert [
        path.name for path, text in made.items() if not path.exists() or path.read_text("utf-8") != text
    ] == []


async def test_the_examples_run(shared_api: Harness, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    tenant = shared_api.tenant
    async with shared_api.app.db.unit_of_work(tenant.id) as uow:
        bob = (await identity.issue_api_key(uow, "client-bob", ("read", "operate"))).secret
    connect = module("custody_client.client").connect
    client, second = connect(url, tenant.keys["all"]), connect(url, bob)
    made = await asyncio.to_thread(module("move_money").run, client, tenant.wallet, XLM.text)
    state = await asyncio.to_thread(module("four_eyes").run, client, second, tenant.empty_wallet, XLM.text)
    client.close()
    second.close()
    assert (made[:4], state) == ("trf_", "posted")
    said = capsys.readouterr().out
    assert "refused: insufficient_funds" in said
    assert "alice alone: second_person_needed" in said


def answering(*script: httpx.Response | Exception) -> tuple[Any, list[httpx.Request], list[float]]:
    """A transport whose server answers in this order, what it was asked, and for how long it paused."""
    asked: list[httpx.Request] = []
    paused: list[float] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        step = script[min(len(asked), len(script)) - 1]
        if isinstance(step, Exception):
            raise step
        return step

    http = httpx.Client(base_url="http://api", transport=httpx.MockTransport(handle))
    made = module("custody_client.transport").Transport("", "ck", version="v", http=http, sleep=paused.append)
    return made, asked, paused


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "detail": "d"}, headers=headers)


async def test_a_command_is_repeated_with_its_key_and_a_refusal_is_not() -> None:
    lost = httpx.ReadError("gone")
    busy = problem(429, "too_many_requests", **{"Retry-After": "7"})
    transport, asked, paused = answering(lost, busy, problem(503, "x"), httpx.Response(201, json={"id": 1}))
    assert transport.call("POST", "/v1/transfers", body=None, command=True) == {"id": 1}
    assert len({request.headers["idempotency-key"] for request in asked}) == 1
    assert (len(asked), paused[1]) == (4, 7.0)
    transport, asked, _ = answering(problem(422, "insufficient_funds"))
    with pytest.raises(module("custody_client.transport").ApiError) as refused:
        transport.call("POST", "/v1/transfers", command=True)
    assert (refused.value.code, len(asked)) == ("insufficient_funds", 1)
    transport, asked, _ = answering(lost)
    with pytest.raises(module("custody_client.transport").NotReached) as unknown:
        transport.call("POST", "/v1/transfers", command=True)
    assert unknown.value.key == asked[-1].headers["idempotency-key"]


def test_a_webhook_is_believed_only_when_it_is_signed_fresh_and_whole() -> None:
    webhooks = module("custody_client.webhooks")
    secret, body = "whsec_" + base64.b64encode(b"k" * 32).decode(), b'{"type":"transfer.posted"}'
    now = datetime(2026, 11, 27, tzinfo=UTC)
    headers = {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": "v1,nonsense " + Webhook(secret).sign("msg_1", now, body.decode()),
    }
    now_s = now.timestamp()
    assert webhooks.verify(secret, headers, body, now_s=now_s) == {"type": "transfer.posted"}
    for wrong in (
        {"body": body + b" "},
        {"now_s": now_s + 301},
        {"now_s": now_s - 301},
        {"headers": headers | {"Webhook-Id": "msg_2"}},
        {"headers": {}},
        {"secret": "whsec_" + base64.b64encode(b"x" * 32).decode()},
    ):
        given = {"secret": secret, "headers": headers, "body": body, "now_s": now_s} | wrong
        with pytest.raises(webhooks.InvalidWebhook):
            webhooks.verify(given["secret"], given["headers"], given["body"], now_s=given["now_s"])


SCREENS = {path.stem: path.read_text("utf-8") for path in sorted((CLIENTS / "graphql").glob("*.graphql"))}


@pytest.mark.parametrize("screen", SCREENS)
async def test_a_screen_is_answered(shared_api: Harness, screen: str) -> None:
    document = SCREENS[screen]
    offered = {"customer": shared_api.tenant.customer, "wallet": shared_api.tenant.wallet}
    variables = {name: value for name, value in offered.items() if f"${name}:" in document}
    answer = await shared_api.graphql(document, **variables)
    assert "errors" not in answer, json.dumps(answer)
    assert all(value is not None for value in answer["data"].values())
