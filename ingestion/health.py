"""`/livez`, `/readyz` and `/metrics` of a worker, on a port of its own. Local and read-only; nothing is parsed but the path."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from ingestion.metrics import Metrics

ALIVE_WITHIN_S = 120.0
"""A worker whose last step ended longer ago hangs."""
READY_WITHIN_S = 30.0
"""A worker whose last successful step ended longer ago does not follow its chain."""


@dataclass(slots=True)
class Status:
    """How the worker fares, in the event loop's own time. Written by the loop, read by the server."""

    waiting_for_lease: bool = True
    """Another worker has the chain; waiting for it is being alive."""
    ended_step_at: float | None = None
    """When the last step ended, well or not."""
    succeeded_at: float | None = None
    """When the last step ended well."""
    started_at: float = field(default=0.0)
    """When the process began."""
    leased_at: float | None = None
    """When this worker's turn came: from then on blocks are expected."""
    followed_at: float | None = None
    """Until when all blocks have been seen: when the newest head that was reached since had been asked for."""
    ahead: int | None = None
    """Height of a head that is not reached yet."""
    ahead_asked_at: float = 0.0
    """When that head was asked for."""
    booked_at: float | None = None
    """When the last block was booked."""
    halted: bool = False
    """Whether the chain waits for a person after a reorganisation below finality."""
    silence_s: int = 0
    """After so long without one the chain is silent; 0 for never."""

    def alive(self, now: float) -> bool:
        """Whether the loop still turns."""
        return self.waiting_for_lease or now - (self.ended_step_at or self.started_at) < ALIVE_WITHIN_S

    def ready(self, now: float) -> bool:
        """Whether the chain is being followed by this worker."""
        if self.succeeded_at is None or self.halted or self.silent(now):
            return False
        return now - self.succeeded_at < READY_WITHIN_S

    def stands(self, reached: int, head: int, asked_at: float) -> None:
        """Note where a step ended, and the head that was asked for in it.

        Whoever reaches a head has seen all that there was when it was asked for, however far the chain has gone since: where the
        newest blocks wait until a second provider names them, even a loop that keeps up is never at the newest."""
        if self.ahead is None or head < self.ahead or head <= reached:
            self.ahead, self.ahead_asked_at = head, asked_at
        if reached >= self.ahead:
            self.followed_at, self.ahead = self.ahead_asked_at, None

    def idle_s(self, now: float) -> float | None:
        """For how long blocks may be that were not seen; None for ever, and while a node that answers tells nothing new."""
        return None if self.followed_at is None or self.silent(now) else now - self.followed_at

    def silent(self, now: float) -> bool:
        """Whether no block was booked for too long, however well the node answers."""
        return self.silence_s > 0 and self.quiet_s(now) >= self.silence_s

    def quiet_s(self, now: float) -> float:
        """For how long no block was booked although it was this worker's turn."""
        since = self.leased_at if self.booked_at is None else self.booked_at
        return 0.0 if since is None else now - since


async def serve(status: Status, metrics: Metrics, host: str, port: int) -> asyncio.Server:
    """Listen until the server is closed. Raises OSError when the port is taken."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(5):
                request = await reader.readline()
                while (await reader.readline()).strip():
                    pass
                writer.write(_respond(request, status, metrics))
                await writer.drain()
        except (OSError, TimeoutError, ValueError):
            # The caller went away or sent no request; there is nobody to tell.
            return
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, port)


def _respond(request: bytes, status: Status, metrics: Metrics) -> bytes:
    parts = request.split()
    path = parts[1] if len(parts) > 1 else b""
    now = asyncio.get_running_loop().time()
    match path:
        case b"/livez":
            return _http(200 if status.alive(now) else 503, b"alive\n" if status.alive(now) else b"hangs\n")
        case b"/readyz":
            ready = status.ready(now)
            if status.halted:
                return _http(503, b"halted: reorganised below finality, a person must decide\n")
            if status.silent(now):
                return _http(503, b"silent: no block was booked for too long\n")
            return _http(200 if ready else 503, b"ready\n" if ready else b"not following the chain\n")
        case b"/metrics":
            return _http(200, metrics.text())
        case _:
            return _http(404, b"not found\n")


def _http(code: int, body: bytes) -> bytes:
    reason = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}[code]
    head = f"HTTP/1.1 {code} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
    return f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
