"""News of new blocks by WebSocket: `eth_subscribe` to `newHeads`. It wakes the loop; nothing in it is believed.

A socket that is dead, silent or lies costs nothing but the time until the next poll, which goes on all the same.
Source: the Ethereum JSON-RPC publish-subscribe methods of geth, which other nodes share.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from custody.kernel.assetid import ChainId
from ingestion.backoff import backoff
from ingestion.beside import beside
from ingestion.metrics import Metrics
from ingestion.news import GAP_S, News
from ingestion.pause import pause
from ingestion.providers import name_providers

QUIET_S = 60.0
"""A socket that has told nothing for so long is opened anew."""
OPEN_S = 10.0
"""Longest time for opening one."""
MESSAGE_MAX_BYTES = 1024 * 1024
"""A head has a few kilobytes."""

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def hearing(
    url: str, chain: ChainId, metrics: Metrics, stop: asyncio.Event
) -> AsyncIterator[News | None]:
    """Meanwhile, listen there; None without an address. What ends this unexpectedly sets `stop` and is raised at the end."""
    if not url:
        yield None
        return
    news = News()
    async with beside(_listen(url, chain, news, metrics, stop), stop):
        yield news


async def _listen(url: str, chain: ChainId, news: News, metrics: Metrics, stop: asyncio.Event) -> None:
    """Open the socket again and again until `stop`. Its address may hold a key: only its host is told."""
    (name,) = name_providers((url,))
    failures = 0
    metrics.heads_heard(name, heard=False)
    while not stop.is_set():
        heard = 0
        try:
            async with connect(
                url, open_timeout=OPEN_S, close_timeout=1, max_size=MESSAGE_MAX_BYTES, proxy=None
            ) as socket:
                await socket.send(orjson.dumps(_SUBSCRIBE).decode())
                async for _ in _heads(socket):
                    heard += 1
                    metrics.heads_heard(name, heard=True)
                    news.arrive()
                    # What comes faster waits in the socket.
                    await pause(stop, GAP_S)
        except (OSError, TimeoutError, WebSocketException) as error:
            failures = 1 if heard else failures + 1
            metrics.heads_heard(name, heard=False)
            _log.warning(
                "ingestion.heads_lost", chain=chain, provider=name, error=type(error).__name__, heard=heard
            )
            await pause(stop, backoff(failures))


_SUBSCRIBE = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]}


async def _heads(socket: ClientConnection) -> AsyncIterator[None]:
    """One item for each that looks like news. Raises TimeoutError when none comes for too long."""
    clock = asyncio.get_running_loop()
    until_s = clock.time() + QUIET_S
    while True:
        async with asyncio.timeout_at(until_s):
            message = await socket.recv()
        if _is_news(message):
            until_s = clock.time() + QUIET_S
            yield


def _is_news(message: str | bytes) -> bool:
    try:
        told = orjson.loads(message)
    except orjson.JSONDecodeError:
        return False
    return isinstance(told, dict) and told.get("method") == "eth_subscription"
