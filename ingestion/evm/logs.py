"""Which blocks hold logs that name our accounts, by the provider's word: `eth_getLogs`, in windows that size themselves.

It proves nothing: a log that is left out cannot be told from one that is not there. So it is asked only where the chain's setting
says so (`logs = "sample"`), what it names is proved, and of what it does not name a part is proved too (`receipts`).
Source: the Ethereum JSON-RPC specification, eth_getLogs; providers bound the range, the results or the time in ways of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog

from custody.chains.errors import RpcRefused, RpcUnreachable, RpcUnreadable
from custody.chains.evm.abi import UPGRADED_TOPIC, parse_quantity
from custody.chains.jsonrpc import JsonRpc, require_dict, require_list
from custody.kernel.assetid import ChainId

LOGS = "eth_getLogs"
WINDOW_FIRST = 100
"""Blocks of the first window."""
WINDOW_MAX = 2_000
"""Blocks of the largest: what most providers bound a range to."""
QUICK_S, SLOW_S = 1.0, 4.0
"""An answer within the first lets windows grow, one beyond the second makes them shrink."""
FEW, MANY = 500, 5_000
"""The same for its logs."""
STABLE_DEPTH = 64
"""So far below the newest block an answer is kept for the blocks to come; nearer to it blocks may still be replaced."""
TOPICS_INDEXED = 3
"""Places after the first at which an event may name an account."""

_log = structlog.get_logger(__name__)


def padded(account: str) -> str:
    """An account as a topic."""
    return "0x" + account[2:].lower().rjust(64, "0")


class LogWindows:
    """One provider's logs, asked for in order. What was asked ahead is kept until it is passed."""

    def __init__(self, chain: ChainId, rpc: JsonRpc) -> None:
        """Nothing is known yet."""
        self._chain = chain
        self._rpc = rpc
        self._size = WINDOW_FIRST
        self._topics: Sequence[str] = ()
        self._from, self._to = 0, -1
        self._heights: set[int] = set()

    async def named(self, first: int, last: int, newest: int, topics: Sequence[str]) -> frozenset[int]:
        """Heights from `first` to `last` at which the provider has a log with one of these topics after its first, or an upgrade.

        `newest` is the chain's newest block. Raises RpcRefused when it refuses a single block.
        """
        if topics != self._topics or not self._from <= first <= self._to + 1:
            self._topics, self._heights = topics, set()
            self._from, self._to = first, first - 1
        stable = newest - STABLE_DEPTH
        while self._to < last:
            await self._read_on(max(last, stable))
        found = frozenset(height for height in self._heights if first <= height <= last)
        self._to = max(first - 1, min(self._to, stable))
        self._from = first
        self._heights = {height for height in self._heights if first <= height <= self._to}
        return found

    async def _read_on(self, end: int) -> None:
        """The next window."""
        start = self._to + 1
        end = min(end, start + self._size - 1)
        clock = asyncio.get_running_loop()
        began_s = clock.time()
        try:
            logs = await self._ask(start, end)
        except (RpcRefused, RpcUnreachable, RpcUnreadable) as error:
            if start == end:
                raise
            # Too many results, too wide, too slow: each provider says it in its own words. A node that is away refuses one too.
            self._size = max(1, (end - start + 1) // 2)
            _log.info("ingestion.log_window", chain=self._chain, blocks=self._size, reason=str(error)[:200])
            return
        took_s = clock.time() - began_s
        if took_s > SLOW_S or len(logs) > MANY:
            self._size = max(1, self._size // 2)
        elif took_s < QUICK_S and len(logs) < FEW:
            self._size = min(WINDOW_MAX, self._size * 2)
        heights = {parse_quantity(LOGS, each.get("blockNumber")) for each in logs}
        if any(not start <= height <= end for height in heights):
            raise RpcUnreadable(method=LOGS, reason="a log outside of the range")
        self._heights |= heights
        self._to = end

    async def _ask(self, start: int, end: int) -> list[dict[str, Any]]:
        span = {"fromBlock": hex(start), "toBlock": hex(end)}
        filters = [
            [*[None] * place, list(self._topics)] for place in range(1, TOPICS_INDEXED + 1) if self._topics
        ]
        asked = [*filters, [[UPGRADED_TOPIC]]]
        answers = await self._rpc.call_all([(LOGS, [{**span, "topics": each}]) for each in asked])
        return [require_dict(LOGS, one) for answer in answers for one in require_list(LOGS, answer)]
