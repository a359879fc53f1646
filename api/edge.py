"""The outermost layer: every request gets a correlation id, a version, a body within limits, one log line and one measurement.

Written against ASGI itself and not as a framework middleware, so that it also covers what fails before routing.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import (
    PROBLEM_MEDIA_TYPE,
    BodyTooLarge,
    EncodedBody,
    MalformedBody,
    Problem,
    SlowBody,
    UnknownVersion,
    neutral_problem,
    problem_of,
)
from api.metrics import Metrics
from api.paging import signing_cursors
from api.versions import CURRENT, VERSION_HEADER, VERSIONS
from custody.kernel.errors import InvalidInput

REQUEST_ID_HEADER = "x-request-id"

STREAM_BEGAN = "stream_began"
"""In the request's state: when, by `time.perf_counter`, an answer began that goes on for as long as somebody watches."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_VERSION = VERSION_HEADER.lower().encode()
_UNLOGGED = frozenset({"/livez", "/readyz", "/metrics"})

Headers = Mapping[bytes, bytes]


class Edge:
    """Wraps the whole application."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, body_bytes_max: int, body_timeout_s: int, cursor_secret: bytes
    ) -> None:
        """`body_bytes_max` bounds what is held in memory for one request, whatever its Content-Length says."""
        self._app = app
        self._cursor_secret = cursor_secret
        self._metrics = metrics
        self._body_bytes_max = body_bytes_max
        self._body_timeout_s = body_timeout_s
        self._log = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI call."""
        if scope["type"] == "websocket":
            await self._pass_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers: Headers = dict(scope["headers"])
        trace_id = _trace_id(headers)
        scope.setdefault("state", {})["trace_id"] = trace_id
        answer = _Answer(scope, headers, trace_id, send)
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(trace_id=trace_id), signing_cursors(self._cursor_secret):
            try:
                _demand_version(headers)
                body = await self._read_body(scope, headers, receive)
                await self._app(scope, _replayed(body, receive), answer.send)
            except InvalidInput as error:
                await _send_problem(answer.send, problem_of(error, trace_id))
            except Exception as error:  # noqa: BLE001 - the process's outermost loop: whatever escaped is logged and answered here
                self._log.error("request.failed", error_type=type(error).__name__, exc_info=error)
                if not answer.begun:
                    await _send_problem(answer.send, neutral_problem(trace_id))
            finally:
                ended = scope["state"].get(STREAM_BEGAN) or time.perf_counter()
                self._observe(scope, answer.status, ended - started)

    async def _pass_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A socket has no body and no answer: what it may send and for how long it may live is seen to where it is served."""
        trace_id = _trace_id(dict(scope["headers"]))
        scope.setdefault("state", {})["trace_id"] = trace_id
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(trace_id=trace_id), signing_cursors(self._cursor_secret):
            try:
                await self._app(scope, receive, send)
            except Exception as error:  # noqa: BLE001 - the outermost loop, as above
                structlog.get_logger().error("socket.failed", error_type=type(error).__name__, exc_info=error)
            finally:
                structlog.get_logger().info("socket.closed", lived_s=round(time.perf_counter() - started))

    async def _read_body(self, scope: Scope, headers: Headers, receive: Receive) -> bytes:
        declared = headers.get(b"content-length", b"").decode("latin-1")
        if declared.isdigit() and int(declared[:20]) > self._body_bytes_max:
            raise BodyTooLarge(bytes_max=self._body_bytes_max)
        encoding = headers.get(b"content-encoding", b"identity")
        if encoding.lower() != b"identity":
            # What a few bytes unpack to is not known before they are unpacked.
            raise EncodedBody(encoding=encoding[:64].decode("latin-1"))
        if scope["method"] == "GET" and declared in ("", "0") and b"transfer-encoding" not in headers:
            # A read says nothing in its body, so that there is nothing to wait for.
            return b""
        return await self._collect(receive)

    async def _collect(self, receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise MalformedBody("The client went away before the body was complete.")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._body_bytes_max:
                        raise BodyTooLarge(bytes_max=self._body_bytes_max)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError as error:
            raise SlowBody(timeout_s=self._body_timeout_s) from error

    def _observe(self, scope: Scope, status: int, elapsed_s: float) -> None:
        """Only the route's template is shown: a raw path would put ids into labels and logs without bound."""
        route = getattr(scope.get("route"), "path", "unmatched")
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        self._metrics.request_observed(method, route, status, elapsed_s)
        if route not in _UNLOGGED:
            self._log.info(
                "request.answered",
                method=scope["method"],
                route=route,
                status=status,
                elapsed_ms=round(elapsed_s * 1000),
            )


class _Answer:
    """What goes back: with the headers that every response has; for a read that the client knows, only that it is the same."""

    def __init__(self, scope: Scope, headers: Headers, trace_id: str, send: Send) -> None:
        self.status = 500
        self.begun = False
        self._state: dict[str, Any] = scope["state"]
        self._tagged = scope["method"] == "GET"
        self._known = headers.get(b"if-none-match")
        self._trace_id = trace_id
        self._send = send
        self._held: Message | None = None

    async def send(self, message: Message) -> None:
        """As ASGI's. The head of a read waits for its body, whose hash it carries."""
        if message["type"] == "http.response.start":
            self.status, self.begun = message["status"], True
            always = (
                *message["headers"],
                (b"x-request-id", self._trace_id.encode()),
                (b"cache-control", b"no-store"),
                (b"x-content-type-options", b"nosniff"),
                (_VERSION, CURRENT.encode()),
                *self._state.get("headers", ()),
            )
            message = {**message, "headers": list(always)}
            if self._tagged and self.status == 200:
                self._held = message
                return
        elif self._held is not None:
            start, self._held = self._held, None
            if not message.get("more_body", False):
                message = self._tag(start, message)
            await self._send(start)
        await self._send(message)

    def _tag(self, start: Message, message: Message) -> Message:
        """Marks a complete answer by its content; one that the client has already is not sent again. Source: RFC 9110, 8.8.3."""
        tag = b'"' + blake2b(message.get("body", b""), digest_size=16).hexdigest().encode() + b'"'
        start["headers"].append((b"etag", tag))
        if self._known is None or tag not in (
            each.strip().removeprefix(b"W/") for each in self._known.split(b",")
        ):
            return message
        self.status = start["status"] = 304
        start["headers"] = [
            pair for pair in start["headers"] if pair[0] not in (b"content-length", b"content-type")
        ]
        return {**message, "body": b""}


def _demand_version(headers: Headers) -> None:
    """Raises UnknownVersion."""
    wanted = headers.get(_VERSION)
    if wanted is not None and wanted.decode("latin-1") not in VERSIONS:
        raise UnknownVersion(version=wanted[:32].decode("latin-1"), known=",".join(VERSIONS))


def _trace_id(headers: Headers) -> str:
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, once; afterwards the client's own messages (its disconnect)."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _send_problem(send: Send, problem: Problem) -> None:
    body = problem.model_dump_json().encode()
    headers = [(b"content-type", PROBLEM_MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    if problem.status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
