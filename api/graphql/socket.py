"""Operations over WebSocket, by the subprotocol `graphql-transport-ws`.

The credential comes with `connection_init` (or in the header `Authorization`, where a client can set one) and is asked for again
while the socket lives. Source: github.com/enisdenjo/graphql-ws, PROTOCOL.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import orjson
from fastapi import APIRouter, WebSocket
from graphql import OperationType
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from api.auth import Caller, caller_of
from api.graphql.endpoint import GraphQLIn
from api.graphql.execution import show_refusal, show_result
from api.graphql.live import Frame, Watch
from api.graphql.once import answer_once
from api.graphql.streams import Streams
from api.strict_json import parse
from custody.events.hub import FeedEnds, FollowerTooSlow
from custody.kernel.errors import CustodyError, InvalidInput, Unauthenticated, Unavailable

router = APIRouter()

SUBPROTOCOL = "graphql-transport-ws"
INIT_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 10.0
"""Whoever takes nothing for so long is let go."""
MESSAGE_CHARS_MAX = 65_536
OPERATIONS_MAX = 20
"""At the same time on one socket."""
MESSAGES_MAX = 200
"""In a stretch of time."""
STRETCH_S = 10.0


class CloseSocket(Exception):
    """The socket ends, with a code that says why."""

    def __init__(self, code: int, reason: str, counted_as: str = "protocol") -> None:
        """Codes from 4400 are the subprotocol's; 4480 is ours: too slow, resume. `counted_as`: of few words, unlike `reason`."""
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.counted_as = counted_as

    @classmethod
    def by(cls, code: int, error: CustodyError) -> CloseSocket:
        """An end that an error of ours explains."""
        return cls(code, error.code, error.code)


@router.websocket("/graphql")
async def graphql_socket(socket: WebSocket) -> None:
    """One client's socket, until either side ends it."""
    if SUBPROTOCOL not in socket.scope.get("subprotocols", ()):
        await socket.accept()
        await socket.close(4406, "Subprotocol not acceptable")
        return
    await socket.accept(SUBPROTOCOL)
    streams: Streams = socket.app.state.streams
    with streams.metrics.stream("websocket") as ending:
        try:
            await _Socket(socket, streams).serve()
        except* CloseSocket as closing:
            error = next(each for each in _leaves(closing) if isinstance(each, CloseSocket))
            ending.reason = error.counted_as
            with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
                async with asyncio.timeout(SEND_TIMEOUT_S):
                    await socket.close(error.code, error.reason)
        except* WebSocketDisconnect:
            ending.reason = "client_left"  # which is how most sockets end


@dataclass(slots=True)
class _Pace:
    """How many messages a client has sent in this stretch of time."""

    sent: int = 0
    since_s: float = field(default_factory=time.monotonic)

    def take(self) -> None:
        now = time.monotonic()
        if now - self.since_s > STRETCH_S:
            self.sent, self.since_s = 0, now
        self.sent += 1
        if self.sent > MESSAGES_MAX:
            raise CloseSocket(4429, "Too many messages")


class _Socket:
    """One socket and the operations on it."""

    def __init__(self, socket: WebSocket, streams: Streams) -> None:
        self._socket = socket
        self._streams = streams
        self._pace = _Pace()
        self._sending = asyncio.Lock()
        self._operations: dict[str, asyncio.Task[None]] = {}
        self._trace_id = str(socket.scope.get("state", {}).get("trace_id", ""))

    async def serve(self) -> None:
        try:
            async with asyncio.timeout(INIT_TIMEOUT_S):
                credential = await self._await_init()
        except TimeoutError as error:
            raise CloseSocket(4408, "Connection initialisation timeout") from error
        try:
            caller = await caller_of(self._streams.app, self._streams.gate, credential)
            with self._streams.vigil.place(caller.principal):
                await self._send({"type": "connection_ack"})
                async with (
                    self._streams.vigil.over(credential, caller.principal) as end,
                    asyncio.TaskGroup() as group,
                ):
                    group.create_task(_close_when(end))
                    await self._listen(caller, group)
        except Unauthenticated as error:
            raise CloseSocket.by(4403, error) from error
        except Unavailable as error:
            raise CloseSocket.by(4429 if error.code == "too_many_streams" else 1013, error) from error
        except CustodyError as error:
            raise CloseSocket.by(4403, error) from error

    async def _await_init(self) -> str:
        while True:
            message = await self._receive()
            match message:
                case {"type": "connection_init"}:
                    given = message.get("payload") or {}
                    if not isinstance(given, dict):
                        raise CloseSocket(4400, "The payload must be an object")
                    named = given.get("authorization") or given.get("Authorization")
                    text = named if isinstance(named, str) else self._socket.headers.get("authorization", "")
                    scheme, _, credential = text.partition(" ")
                    return credential.strip() if scheme.lower() == "bearer" else ""
                case {"type": "ping"}:
                    await self._send({"type": "pong"})
                case {"type": "pong"}:
                    pass
                case {"type": "subscribe"}:
                    raise CloseSocket(4401, "Unauthorized")
                case _:
                    raise CloseSocket(4400, "Unknown message")

    async def _listen(self, caller: Caller, group: asyncio.TaskGroup) -> None:
        while True:
            message = await self._receive()
            match message:
                case {"type": "ping"}:
                    await self._send({"type": "pong"})
                case {"type": "pong"}:
                    pass
                case {"type": "connection_init"}:
                    raise CloseSocket(4429, "Too many initialisation requests")
                case {"type": "complete", "id": str(name)}:
                    if (task := self._operations.pop(name, None)) is not None:
                        task.cancel()
                case {"type": "subscribe", "id": str(name), "payload": dict(payload)} if 0 < len(name) <= 64:
                    if name in self._operations:
                        raise CloseSocket(4409, f"Subscriber for {name} already exists")
                    self._operations[name] = group.create_task(self._operate(name, payload, caller))
                case _:
                    raise CloseSocket(4400, "Unknown message")

    async def _operate(self, name: str, payload: dict[str, Any], caller: Caller) -> None:
        """One operation from its first answer to its end."""
        try:
            if len(self._operations) > OPERATIONS_MAX:
                raise TooManyOperations(operations_max=OPERATIONS_MAX)
            async with contextlib.aclosing(self._answers(payload, caller)) as answers:
                async for kind, body in answers:
                    await self._send_raw(_wrapped(name, kind, body))
                    if kind == "error":
                        return
            if self._operations.get(name) is asyncio.current_task():
                await self._send({"type": "complete", "id": name})
        except FeedEnds as error:
            raise CloseSocket.by(1012, error) from error
        except Unavailable as error:
            raise CloseSocket.by(4480, error) from error
        except CustodyError as error:
            shown = [show_refusal(error, self._trace_id)]
            await self._send({"type": "error", "id": name, "payload": shown})
        finally:
            if self._operations.get(name) is asyncio.current_task():
                del self._operations[name]

    async def _answers(
        self, payload: dict[str, Any], caller: Caller
    ) -> AsyncGenerator[tuple[str, bytes], None]:
        """Answers as JSON, each with the type of its message."""
        try:
            asked = GraphQLIn.model_validate(payload)
        except ValidationError as error:
            raise MalformedOperation from error
        prepared = self._streams.graph.documents.find(asked.query, asked.named)
        if prepared.errors:
            shown, _ = show_result(prepared.refusal, self._trace_id)
            yield "error", orjson.dumps(shown["errors"])
            return
        if prepared.operation(asked.operation_name) is not OperationType.SUBSCRIPTION:
            shown, executed = await answer_once(
                self._streams.graph, prepared, caller, asked.variables, asked.operation_name, self._trace_id
            )
            yield ("next", orjson.dumps(shown)) if executed else ("error", orjson.dumps(shown["errors"]))
            return
        wanted = Watch(
            caller=caller,
            prepared=prepared,
            variables=asked.variables or {},
            operation=asked.operation_name,
            trace_id=self._trace_id,
        )
        async with contextlib.aclosing(self._streams.watch(wanted, "websocket")) as frames:
            async for frame in frames:
                yield _of_frame(frame)

    async def _receive(self) -> dict[str, Any]:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        self._pace.take()
        text = message.get("text")
        if text is None or len(text) > MESSAGE_CHARS_MAX:
            raise CloseSocket(4400 if text is None else 1009, "One JSON object of limited size is a message")
        try:
            found = parse(text.encode())
        except InvalidInput as error:
            raise CloseSocket(4400, error.code) from error
        if not isinstance(found, dict):
            raise CloseSocket(4400, "One JSON object is a message")
        return found

    async def _send(self, message: dict[str, Any]) -> None:
        await self._send_raw(orjson.dumps(message).decode())

    async def _send_raw(self, text: str) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S), self._sending:
                await self._socket.send_text(text)
        except TimeoutError as error:
            raise CloseSocket.by(4480, FollowerTooSlow()) from error


class MalformedOperation(InvalidInput):
    """The payload of `subscribe` is no GraphQL request."""

    code = "malformed_operation"
    public = (
        "The payload must be a GraphQL request: query or documentId, variables, operationName, extensions."
    )


class TooManyOperations(InvalidInput):
    """As many operations run on this socket as may."""

    code = "too_many_operations"
    public = "Too many operations run on this socket."


def _of_frame(frame: Frame) -> tuple[str, bytes]:
    if frame.position is not None:
        return "next", frame.body
    return "error", orjson.dumps(orjson.loads(frame.body)["errors"])


def _wrapped(name: str, kind: str, body: bytes) -> str:
    """The message around an answer, which many share: only what is around it is written anew."""
    return f'{{"type":"{kind}","id":{orjson.dumps(name).decode()},"payload":{body.decode()}}}'


async def _close_when(end: asyncio.Future[CustodyError]) -> None:
    reason = await end
    raise CloseSocket.by(4401, reason)


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for each in group.exceptions:
        found += _leaves(each) if isinstance(each, BaseExceptionGroup) else [each]
    return found
