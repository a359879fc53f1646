"""Subscriptions as server-sent events: one request, one operation, one stream.

Source: graphql-sse, PROTOCOL.md, "distinct connections mode". Each event's `id` is its sequence, so that a client that resumes
sends it as `after`, or in the header `Last-Event-ID`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator
from typing import Any

import orjson
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.edge import STREAM_BEGAN
from api.graphql.execution import show_refusal
from api.graphql.live import Frame, Watch
from api.graphql.streams import Streams
from custody.kernel.errors import CustodyError

EVENT_STREAM = "text/event-stream"
_ALIVE_S = 12.0
"""How often something is sent when there is nothing to say, so that nobody on the way takes the stream for dead."""


class EventStream(StreamingResponse):
    """Measured as a request up to here: how long it is watched says nothing of how fast it was answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"][STREAM_BEGAN] = time.perf_counter()
        await super().__call__(scope, receive, send)


def stream(streams: Streams, wanted: Watch, credential: str) -> StreamingResponse:
    """The response that a subscription is watched by. Raises TooManyStreams."""
    with streams.vigil.place(wanted.caller.principal):
        pass  # refused here while there is still a status to say it with; taken when the stream begins
    return EventStream(
        _events(streams, wanted, credential), media_type=EVENT_STREAM, headers={"x-accel-buffering": "no"}
    )


async def _events(streams: Streams, wanted: Watch, credential: str) -> AsyncGenerator[bytes, None]:
    principal = wanted.caller.principal
    with streams.metrics.stream("sse") as ending:
        ending.reason = "client_left"
        try:
            with streams.vigil.place(principal):
                async with (
                    streams.vigil.over(credential, principal) as end,
                    contextlib.aclosing(streams.watch(wanted, "sse")) as frames,
                ):
                    async for each in _until(end, frames):
                        yield b":\n\n" if each is None else event("next", each.body, each.position)
            ending.reason = "completed"
        except CustodyError as error:
            ending.reason = error.code
            yield event("next", orjson.dumps({"errors": [show_refusal(error, wanted.trace_id)]}))
        yield event("complete")


async def _until(
    end: asyncio.Future[CustodyError], frames: AsyncGenerator[Frame, None]
) -> AsyncGenerator[Frame | None, None]:
    """The frames, and None where nothing came for a while. Raises the reason of the end when there is one."""
    taking: asyncio.Future[Frame | None] | None = None
    try:
        while True:
            taking = taking or asyncio.ensure_future(_next(frames))
            waited: list[asyncio.Future[Any]] = [taking, end]
            await asyncio.wait(waited, timeout=_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                raise end.result()
            if not taking.done():
                yield None
                continue
            frame, taking = taking.result(), None
            if frame is None:
                return
            yield frame
    finally:
        if taking is not None:
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError, CustodyError):
                await taking


async def _next(frames: AsyncGenerator[Frame, None]) -> Frame | None:
    return await anext(frames, None)


def event(name: str, data: bytes = b"", position: int | None = None) -> bytes:
    """One event of the stream."""
    place = b"" if position is None else b"id: %d\n" % position
    return b"event: %s\n%sdata: %s\n\n" % (name.encode(), place, data)
