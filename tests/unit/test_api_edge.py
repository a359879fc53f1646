"""The outermost layer, driven as an ASGI server would drive it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from api.edge import STREAM_BEGAN, Edge
from api.graphql.event_stream import EventStream
from api.metrics import Metrics


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body that it was given."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def fail(scope: Any, receive: Any, send: Any) -> None:
    """Fails with something that no client may see."""
    raise RuntimeError("password=hunter2")


async def call(
    app: Any,
    *messages: dict[str, Any],
    timeout_s: int = 5,
    metrics: Metrics | None = None,
    **headers: str,
) -> list[dict[str, Any]]:
    """What the client is sent, when its own messages are these; afterwards it is silent."""
    sent: list[dict[str, Any]] = []
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    shown = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": shown}
    await Edge(app, metrics or Metrics(), body_bytes_max=10, body_timeout_s=timeout_s, cursor_secret=b"s")(
        scope, receive, send
    )
    return sent


def part(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def code_of(sent: list[dict[str, Any]]) -> tuple[int, str]:
    return sent[0]["status"], json.loads(sent[1]["body"])["code"]


async def test_a_body_in_parts_arrives_whole() -> None:
    sent = await call(echo, part(b"12345", more=True), part(b"67890"))
    assert sent[1]["body"] == b"1234567890"
    assert b"x-request-id" in dict(sent[0]["headers"])


async def test_a_body_is_cut_off_by_what_arrives_and_by_what_is_declared() -> None:
    assert code_of(await call(echo, part(b"12345", more=True), part(b"678901"))) == (413, "body_too_large")
    assert code_of(await call(echo, content_length="11")) == (413, "body_too_large")
    assert code_of(await call(echo, content_length="9" * 400)) == (413, "body_too_large")


async def test_a_client_that_drips_its_body_is_let_go() -> None:
    assert code_of(await call(echo, part(b"1", more=True), timeout_s=0)) == (408, "body_too_slow")


async def test_a_client_that_goes_away_costs_no_work() -> None:
    sent = await call(fail, part(b"1", more=True), {"type": "http.disconnect"})
    assert code_of(sent) == (400, "malformed_json")


async def test_what_nobody_foresaw_is_answered_without_its_cause() -> None:
    sent = await call(fail, part(b""), x_request_id="trace-1")
    assert code_of(sent) == (500, "internal_error")
    assert b"hunter2" not in sent[1]["body"]
    assert json.loads(sent[1]["body"])["trace_id"] == "trace-1"


async def test_other_protocols_pass_untouched() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await Edge(app, Metrics(), body_bytes_max=1, body_timeout_s=1, cursor_secret=b"s")(
        {"type": "lifespan"}, None, None
    )  # type: ignore[arg-type]  # never called
    assert seen == ["lifespan"]


async def test_a_stream_counts_as_a_request_only_until_it_begins() -> None:
    async def watch(scope: Any, receive: Any, send: Any) -> None:
        async def events() -> AsyncIterator[bytes]:
            scope["state"][STREAM_BEGAN] -= 1000  # as if it had begun long before the end
            yield b"data: 1\n\n"

        await EventStream(events())(scope, receive, send)

    metrics = Metrics()
    await call(watch, part(b""), metrics=metrics)
    measured = {"method": "POST", "route": "unmatched"}
    total = metrics.registry.get_sample_value("custody_api_request_seconds_sum", measured)
    assert total is not None
    assert total < 0, "the time until the stream began, which this one moved into the past"
