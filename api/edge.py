"""The outermost layer: every request gets a correlation id, a body within limits, one log line and one measurement.

Written against ASGI itself and not as a framework middleware, so that it also covers what fails before routing.
"""

from __future__ import annotations

import asyncio
import re
import time
from uuid import uuid4

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import (
    PROBLEM_MEDIA_TYPE,
    BodyTooLarge,
    MalformedBody,
    Problem,
    SlowBody,
    neutral_problem,
    problem_of,
)
from api.metrics import Metrics
from api.paging import signing_cursors
from custody.kernel.errors import InvalidInput

REQUEST_ID_HEADER = "x-request-id"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI call."""
        if scope["type"] == "websocket":
            await self._pass_socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace_id = _trace_id(scope)
        scope.setdefault("state", {})["trace_id"] = trace_id
        started = time.perf_counter()
        status = 500
        begun = False

        async def send_marked(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message = {**message, "headers": [*message["headers"], *_always(trace_id)]}
            await send(message)

        with structlog.contextvars.bound_contextvars(trace_id=trace_id), signing_cursors(self._cursor_secret):
            try:
                body = await self._read_body(scope, receive)
                await self._app(scope, _replayed(body, receive), send_marked)
            except InvalidInput as error:
                await _send_problem(send_marked, problem_of(error, trace_id))
            except Exception as error:  # noqa: BLE001 - the process's outermost loop: whatever escaped is logged and answered here
                structlog.get_logger().error(
                    "request.failed", error_type=type(error).__name__, exc_info=error
                )
                if not begun:
                    await _send_problem(send_marked, neutral_problem(trace_id))
            finally:
                self._observe(scope, status, time.perf_counter() - started)

    async def _pass_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A socket has no body and no answer: what it may send and for how long it may live is seen to where it is served."""
        trace_id = _trace_id(scope)
        scope.setdefault("state", {})["trace_id"] = trace_id
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(trace_id=trace_id), signing_cursors(self._cursor_secret):
            try:
                await self._app(scope, receive, send)
            except Exception as error:  # noqa: BLE001 - the outermost loop, as above
                structlog.get_logger().error("socket.failed", error_type=type(error).__name__, exc_info=error)
            finally:
                structlog.get_logger().info("socket.closed", lived_s=round(time.perf_counter() - started))

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes:
        declared = _header(scope, b"content-length")
        if declared.isdigit() and int(declared[:20]) > self._body_bytes_max:
            raise BodyTooLarge(bytes_max=self._body_bytes_max)
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
        if route not in ("/livez", "/readyz", "/metrics"):
            structlog.get_logger().info(
                "request.answered",
                method=scope["method"],
                route=route,
                status=status,
                elapsed_ms=round(elapsed_s * 1000),
            )


def _always(trace_id: str) -> list[tuple[bytes, bytes]]:
    """Headers of every response: what to quote to support, and that money's figures are nobody's to keep or to guess types of."""
    return [
        (b"x-request-id", trace_id.encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]


def _trace_id(scope: Scope) -> str:
    given = _header(scope, REQUEST_ID_HEADER.encode())
    return given if _REQUEST_ID.fullmatch(given) else uuid4().hex


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


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
