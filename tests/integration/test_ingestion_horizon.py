"""Horizon's rows make ledgers only when nothing is missing, added or altered; what cannot be proved is refused by name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from stellar_sdk import Asset, Payment

from custody.chains.errors import RpcUnreachable, RpcUnreadable
from custody.kernel.errors import CustodyError
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from ingestion.errors import (
    BrokenHashChain,
    HistoryLost,
    InconsistentNode,
    Unprovable,
    UnprovedTransaction,
    UnreadableLedger,
)
from ingestion.stellar.horizon import HorizonLedgers
from tests.fakes.ledger_network import RECEIVER, open_network, open_reader, read_all

Tamper = Callable[[str, Any], Any]
PAID = 4
"""A ledger that pays the receiver: the first after one whose number three divides."""


class Relay:
    """A server between us and Horizon that may rewrite what it passes on."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.url = ""
        self.tamper: Tamper = lambda _path, body: body
        self.status: int | None = None
        self.raw: bytes | None = None
        self.asked: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        self.asked.append(path)
        async with httpx.AsyncClient(trust_env=False) as http:
            found = await http.get(self.upstream + path)
        body = self.raw or json.dumps(self.tamper(path, found.json())).encode()
        head = f"HTTP/1.1 {self.status or found.status_code} X\r\nConnection: close\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await writer.drain()
        writer.close()


@pytest.fixture
def served() -> Iterator[Served]:
    """A network with history."""
    with serve_in_thread(open_network(9)) as running:
        yield running


@asynccontextmanager
async def relayed(served: Served) -> AsyncIterator[tuple[Relay, HorizonLedgers]]:
    relay = Relay(f"{served.url}/horizon")
    server = await asyncio.start_server(relay.answer, "127.0.0.1", 0)
    relay.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    source = HorizonLedgers(relay.url, open_reader(served.network), timeout_s=20)
    try:
        yield relay, source
    finally:
        await source.aclose()
        server.close()


def rows(change: Callable[[list[Any]], Any]) -> Tamper:
    """Rewrite the transactions of a ledger."""

    def tamper(path: str, body: Any) -> Any:
        if "/transactions" in path:
            change(body["_embedded"]["records"])
        return body

    return tamper


def field(name: str, value: object) -> Tamper:
    """Rewrite a field of every transaction."""
    return rows(lambda records: [each.update({name: value}) for each in records])


def ledger(name: str, value: object) -> Tamper:
    """Rewrite a field of the ledger."""
    return lambda path, body: body if "/transactions" in path else body | {name: value}


def swapped(served: Served) -> str:
    """The meta of another ledger's transaction."""
    other = next(row for row in served.network.transactions_of(7))
    return other.processing.tx_apply_processing.to_xdr()


async def test_a_ledger_of_several_pages_is_put_together_whole(served: Served) -> None:
    network = served.network

    def crowd() -> None:
        with Outsider(served.url, drive=True) as outsider:
            payers = [outsider.new_account() for _ in range(5)]
            for payer in payers:
                payment = Payment(RECEIVER.public_key, Asset.native(), "1")
                network.submit(outsider.build(payer, [payment]).to_xdr())
            network.close()

    await asyncio.to_thread(crowd)
    top = network.latest.sequence
    assert len(network.transactions_of(top)) == 5
    for page in (1, 2, 3, 5, 6):
        source = HorizonLedgers(f"{served.url}/horizon/", open_reader(network), timeout_s=20, page=page)
        assert await source.fetch(top, top) == await read_all(network, top, top)
        await source.aclose()
    for seen in range(5):
        await _half_taken_in(served, top, seen)


async def _half_taken_in(served: Served, height: int, seen: int) -> None:
    """A ledger of which the server has so few rows yet is none, whether or not its count says so; a moment later it is whole."""

    def cut(path: str, body: Any) -> Any:
        if "/transactions" in path:
            body["_embedded"]["records"] = body["_embedded"]["records"][:seen]
        return body

    def counted(path: str, body: Any) -> Any:
        return cut(path, ledger("successful_transaction_count", seen)(path, body))

    async with relayed(served) as (relay, source):
        for tamper, refusal in ((cut, InconsistentNode), (counted, BrokenHashChain)):
            relay.tamper = tamper
            with pytest.raises(refusal):
                await source.fetch(height, height)
        relay.tamper = lambda _path, body: body
        assert await source.fetch(height, height) == await read_all(served.network, height, height)


@pytest.mark.parametrize(
    ("tamper", "refusal"),
    [
        (field("result_meta_xdr", None), Unprovable),
        (field("result_meta_xdr", ""), Unprovable),
        (rows(lambda records: records.clear()), InconsistentNode),
        (rows(lambda records: records.append(records[0])), InconsistentNode),
        (ledger("successful_transaction_count", 0), BrokenHashChain),
        (ledger("successful_transaction_count", "1"), RpcUnreadable),
        (ledger("failed_transaction_count", -1), BrokenHashChain),
        (ledger("hash", "ab" * 32), BrokenHashChain),
        (ledger("hash", "AB" * 32), RpcUnreadable),
        (ledger("header_xdr", "AAAA"), UnreadableLedger),
        (ledger("header_xdr", "?"), RpcUnreadable),
        (field("hash", "cd" * 32), BrokenHashChain),
        (field("result_xdr", "AAAAAAAAAGT////7AAAAAA=="), BrokenHashChain),
        (field("result_xdr", "AAAA"), UnreadableLedger),
        (field("envelope_xdr", "AAAA"), UnreadableLedger),
        (field("fee_meta_xdr", "AAAAAQ=="), UnreadableLedger),
        (field("fee_meta_xdr", None), RpcUnreadable),
        (field("fee_meta_xdr", "AAAAAA=="), UnprovedTransaction),
    ],
)
async def test_rows_that_were_altered_make_no_ledger(
    served: Served, tamper: Tamper, refusal: type[Exception]
) -> None:
    assert served.network.transactions_of(PAID)
    async with relayed(served) as (relay, source):
        assert await source.fetch(PAID, PAID) == await read_all(served.network, PAID, PAID)
        relay.tamper = tamper
        with pytest.raises(refusal):
            await source.fetch(PAID, PAID)


async def test_the_meta_of_another_transaction_proves_nothing(served: Served) -> None:
    async with relayed(served) as (relay, source):
        relay.tamper = field("result_meta_xdr", swapped(served))
        with pytest.raises(CustodyError) as caught:
            await source.fetch(PAID, 7)
    assert caught.value.code in ("ingestion_unproved_transaction", "ingestion_unreadable_ledger")


async def test_a_server_that_keeps_no_meta_is_refused(served: Served) -> None:
    served.network.order_faults({"horizon_without_meta": True})
    source = HorizonLedgers(f"{served.url}/horizon", open_reader(served.network), timeout_s=20)
    with pytest.raises(Unprovable, match="result_meta_xdr"):
        await source.fetch(PAID, PAID)
    await source.aclose()


async def test_what_the_server_no_longer_keeps_is_lost_and_what_fails_is_asked_for_again(
    served: Served,
) -> None:
    async with relayed(served) as (relay, source):
        assert [each.ref.height for each in await source.fetch(8, 12)] == [8, 9]
        for status in (429, 500, 503, 301):
            relay.status = status
            with pytest.raises(RpcUnreachable, match=str(status)):
                await source.fetch(8, 8)
        relay.status = None
        for raw in (b"<html>", b"[]", b"{}", b"null", b"[" * 100_000):
            relay.raw = raw
            with pytest.raises(RpcUnreadable):
                await source.fetch(8, 8)
        relay.raw = None
        served.network.order_faults({"keep_ledgers": 3})
        with pytest.raises(HistoryLost):
            await source.fetch(5, 8)
        served.network.order_faults({"outage": True})
        with pytest.raises(RpcUnreachable):
            await source.head()


async def test_pages_that_lead_around_end(served: Served) -> None:
    async with relayed(served) as (relay, _):
        around = HorizonLedgers(relay.url, open_reader(served.network), timeout_s=20, page=1)
        page = (await _transactions(served))["_embedded"]["records"]
        relay.tamper = lambda path, body: (
            {"_embedded": {"records": page}} if "/transactions" in path else body
        )
        with pytest.raises(RpcUnreadable, match="without an end"):
            await around.fetch(PAID, PAID)
        await around.aclose()


async def _transactions(served: Served) -> Any:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{served.url}/horizon/ledgers/{PAID}/transactions?include_failed=true")
    return answer.json()
