"""A JSON-RPC node that says what a test wants, over real HTTP on the loopback interface."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[[Any], dict[str, Any]]


@dataclass
class RpcNode:
    """Answers by method. An answer is a function from params to `{"result": …}` or `{"error": …}`."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    delay_s: float = 0.0
    """How long each answer is held back."""
    raw: bytes | None = None
    """Sent instead of any answer, as it is; empty bytes hang up."""

    def result(self, method: str, value: Any) -> None:
        """Answer this method with this result."""
        self.answers[method] = lambda _params: {"result": value}

    def error(self, method: str, message: str, code: int = -32000) -> None:
        """Answer this method with this error."""
        self.answers[method] = lambda _params: {"error": {"code": code, "message": message}}

    def respond(self, body: Any) -> Any:
        if isinstance(body, list):
            return [self.respond(each) for each in body]
        self.asked.append(body["method"])
        return {"jsonrpc": "2.0", "id": body["id"], **self.answers[body["method"]](body.get("params"))}


@asynccontextmanager
async def run_node() -> AsyncIterator[RpcNode]:
    """A node that listens."""
    node = RpcNode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.lower().split(b"\r\n")
            if line.startswith(b"content-length")
        )
        body = json.loads(await reader.readexactly(length))
        await asyncio.sleep(node.delay_s)
        answer = node.raw if node.raw is not None else _http(json.dumps(node.respond(body)).encode())
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    node.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield node
    finally:
        server.close()


def _http(body: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
