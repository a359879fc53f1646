"""What stands before a node or before the API's callbacks: passes on what is said, late, never, twice, or not as it was."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from tests.soak.lies import Call, Lies

_NOT_PASSED_ON = frozenset({"host", "content-length", "connection", "accept-encoding"})
NO_ANSWER = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


@dataclass(slots=True, kw_only=True)
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Front:
    """Honest and quick until told otherwise."""

    def __init__(self, chance: random.Random, lies: Lies | None = None) -> None:
        """`lies` are those of a node's kind; without them it stands before something that is called back."""
        self._chance = chance
        self._lies = lies
        self._http = httpx.AsyncClient(timeout=30, trust_env=False)
        self.url = ""
        self.behind = ""
        self.away = False
        self.delay_s = 0.0
        self.share = 0.0
        """Of the questions that are lied to."""
        self.twice = 0.0
        """Share of requests that are passed on more than once."""
        self.told: Counter[str] = Counter()

    def clear(self) -> None:
        """Honest and quick again."""
        self.away, self.delay_s, self.share = False, 0.0, 0.0

    async def answer(self, request: Request) -> bytes | None:
        """What is said; None to hang up."""
        if self.away:
            self.told["away"] += 1
            return None if self._chance.random() < 0.5 else NO_ANSWER
        if self.delay_s:
            self.told["late"] += 1
            await asyncio.sleep(self._chance.uniform(0, self.delay_s))
        if self._lies is not None and self.share and (lied := await self._lie(request)) is not None:
            return lied or None
        times = 1 + (self._chance.random() < self.twice) * self._chance.randint(1, 2)
        answers = await asyncio.gather(*(self._pass_on(request) for _ in range(times)))
        self.told["again"] += times - 1
        return answers[0]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _lie(self, request: Request) -> bytes | None:
        """Something else than what the node says; empty to hang up, None to be honest after all."""
        asked = json.loads(request.body)

        async def ask(call: Call) -> Call:
            body = json.dumps(call).encode()
            return dict((await self._http.post(self.behind, content=body, headers=_JSON)).json())

        calls = asked if isinstance(asked, list) else [asked]
        answers = []
        for call in calls:
            if self._lies is None or self._chance.random() >= self.share:
                answers.append(await ask(call))
                continue
            name, answer = await self._lies.tell(self._chance, call, ask)
            self.told[name] += 1
            if answer is None:
                return b""
            answers.append(answer)
        return _respond(200, json.dumps(answers if isinstance(asked, list) else answers[0]).encode())

    async def _pass_on(self, request: Request) -> bytes:
        headers = {name: value for name, value in request.headers.items() if name not in _NOT_PASSED_ON}
        answer = await self._http.request(
            request.method, self.behind + request.path, content=request.body, headers=headers
        )
        return _respond(answer.status_code, answer.content)


_JSON = {"content-type": "application/json"}


def _respond(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def stand_before(front: Front) -> AsyncIterator[Front]:
    """Listen; what is behind may be named later."""
    server = await asyncio.start_server(_serving(front), "127.0.0.1", 0)
    front.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield front
    finally:
        server.close()
        await front.aclose()


def _serving(front: Front) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (answer := await front.answer(await _read(reader))) is not None:
                writer.write(answer)
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, httpx.HTTPError):
            # Either side went away: the other sees the same.
            pass
        finally:
            writer.close()

    return serve


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {}
    for line in filter(None, head[1:]):
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method=method, path=path, headers=headers, body=body)
