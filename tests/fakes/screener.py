"""An outside screener: what it knows, a fake that asks it directly, and an HTTP server that serves it (docs/withdrawals.md).

Both ways pass `tests/contract/test_screener.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from custody.screening.model import Answer, Finding, Question
from tests.fakes.faults import Faults

TROUBLES = (
    "silence",
    "closed",
    "status 500",
    "status 404",
    "status 302",
    "garbage",
    "list",
    "other reference",
    "other address",
    "no finding",
    "strange finding",
)
"""What an answer can be that says nothing."""


@dataclass
class ScreeningDesk:
    """Knows who must not be paid. A reference names one screening, whatever becomes of the answers about it."""

    hits: set[str] = field(default_factory=set)
    pending: bool = False
    trouble: str = ""
    screenings: dict[str, str] = field(default_factory=dict)
    """Account by reference: one line for each screening that was ever begun."""
    asked: int = 0

    def finding(self, reference: str, account: str) -> str:
        """How this screening stands; begun when it was not."""
        self.asked += 1
        self.screenings.setdefault(reference, account)
        return "pending" if self.pending else "hit" if account in self.hits else "clear"


class FakeScreener:
    """Asks the desk without a network."""

    def __init__(self, desk: ScreeningDesk, faults: Faults | None = None) -> None:
        self.desk = desk
        self.faults = faults or Faults()

    @property
    def name(self) -> str:
        return "desk"

    async def screen(self, question: Question) -> Answer:
        self.faults.reach("before screen")
        said = self.desk.finding(str(question.reference), question.account)
        self.faults.reach("after screen")
        if self.desk.trouble or said == "pending":
            return Answer(finding=Finding.UNKNOWN, detail=self.desk.trouble or said)
        return Answer(finding=Finding(said), detail="case 7")

    async def aclose(self) -> None:
        return


@contextlib.asynccontextmanager
async def serving(desk: ScreeningDesk, token: str) -> AsyncIterator[str]:
    """The desk over HTTP; yields where questions are posted to."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = json.loads(await reader.readexactly(int(headers["content-length"])))
                if desk.trouble == "silence":
                    await reader.read()
                if desk.trouble == "closed":
                    break
                allowed = headers["authorization"] == f"bearer {token}"
                agrees = headers["idempotency-key"] == body["reference"]
                status, answer = _answer(desk, body) if allowed and agrees else (401, b"")
                writer.write(
                    f"HTTP/1.1 {status} X\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer
                )
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/screenings"
    finally:
        server.close()


def _answer(desk: ScreeningDesk, body: dict[str, Any]) -> tuple[int, bytes]:
    said = {
        "reference": body["reference"],
        "address": body["address"],
        "finding": desk.finding(body["reference"], body["address"]),
        "detail": "case 7",
    }
    match desk.trouble:
        case "garbage":
            return 200, b"<html>"
        case "list":
            return 200, b"[]"
        case "other reference":
            said["reference"] = "another"
        case "other address":
            said["address"] = "another"
        case "no finding":
            del said["finding"]
        case "strange finding":
            said["finding"] = "probably clear"
        case status if status.startswith("status "):
            return int(status.removeprefix("status ")), json.dumps(said).encode()
    return 200, json.dumps(said).encode()
