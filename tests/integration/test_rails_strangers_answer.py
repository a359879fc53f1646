"""An answer that is not the bank's own word about our order proves nothing: the payment stays unknown, its hold stays."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from custody.payouts.model import Declined, Lost
from rails.sandbox.adapter import SandboxRail
from tests.contract.test_rail_contract import make_instruction

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


@asynccontextmanager
async def answering(status: int, body: bytes) -> AsyncIterator[SandboxRail]:
    """A rail whose other end gives one answer to everything."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    rail = SandboxRail("sandbox", base_url=f"http://127.0.0.1:{port}", callback_secret=SECRET, timeout_s=5)
    try:
        yield rail
    finally:
        await rail.aclose()
        server.close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"code": "bad_gateway_rule"}),
        (404, {"code": "no_route"}),
        (404, {"code": "unknown_reference"}),
        (422, {"code": "AC01"}),
        (422, {"code": "AC01", "status": "refused", "end_to_end_id": "SOMEBODY-ELSE"}),
        (403, {"code": "bad_iban"}),
        (500, {"code": "bad_iban"}),
    ],
)
async def test_a_strangers_refusal_is_no_refusal(status: int, body: dict[str, str]) -> None:
    async with answering(status, json.dumps(body).encode()) as rail:
        assert isinstance(await rail.submit(make_instruction()), Lost)


async def test_the_banks_own_refusal_of_our_order_is_final() -> None:
    instruction = make_instruction()
    own = {"code": "AC01", "status": "refused", "end_to_end_id": instruction.reference}
    async with answering(422, json.dumps(own).encode()) as rail:
        assert await rail.submit(instruction) == Declined(code="AC01")
