"""Windows of `eth_getLogs` fit themselves to what a provider allows, and nothing between two of them is left out."""

from __future__ import annotations

from typing import Any

import pytest

from custody.chains.errors import RpcRefused, RpcUnreadable
from custody.chains.jsonrpc import JsonRpc
from custody.kernel.assetid import ChainId
from ingestion.evm.logs import STABLE_DEPTH, WINDOW_MAX, LogWindows, padded
from tests.fakes.rpc_node import RpcNode, run_node

CHAIN = ChainId("eip155:1")
OURS = [padded("0x" + "0A" * 20)]
NEWEST = 30_000


class Provider:
    """Has a log of ours at every height that a test says, and bounds what it is asked in one way or another."""

    def __init__(self, node: RpcNode) -> None:
        self.heights: set[int] = set()
        self.range_max = 10**9
        self.results_max = 10**9
        self.spans: list[tuple[int, int]] = []
        node.answers["eth_getLogs"] = self.answer

    def answer(self, params: Any) -> dict[str, Any]:
        first, last = (int(params[0][name], 16) for name in ("fromBlock", "toBlock"))
        if params[0]["topics"] != [None, OURS]:
            return {"result": []}
        self.spans.append((first, last))
        found = [{"blockNumber": hex(height)} for height in sorted(self.heights) if first <= height <= last]
        if last - first + 1 > self.range_max:
            return {"error": {"code": -32000, "message": "block range is too wide"}}
        if len(found) > self.results_max:
            return {"error": {"code": -32005, "message": "query returned more than 10000 results"}}
        return {"result": found}


async def read(windows: LogWindows, first: int, last: int, batch: int = 20) -> list[int]:
    found: list[int] = []
    for start in range(first, last + 1, batch):
        found += sorted(await windows.named(start, min(last, start + batch - 1), NEWEST, OURS))
    return found


@pytest.mark.parametrize(("range_max", "results_max"), [(10**9, 10**9), (7, 10**9), (10**9, 3), (1, 1)])
async def test_every_log_is_named_whatever_the_provider_bounds(range_max: int, results_max: int) -> None:
    async with run_node() as node:
        provider = Provider(node)
        provider.range_max, provider.results_max = range_max, results_max
        provider.heights = {1_000, 1_001, 1_019, 1_020, 1_021, 1_024, 1_130, 1_299, 1_301}
        windows = LogWindows(CHAIN, JsonRpc(node.url))
        assert await read(windows, 1_000, 1_300) == sorted(provider.heights - {1_301})
        told = [span for span in provider.spans if span[1] - span[0] < range_max]
        assert max(last - first for first, last in told) < range_max


async def test_windows_grow_ahead_and_stop_before_blocks_that_may_be_replaced() -> None:
    async with run_node() as node:
        provider = Provider(node)
        windows = LogWindows(CHAIN, JsonRpc(node.url))
        await read(windows, 10_000, 20_000)
        widest = max(last - first + 1 for first, last in provider.spans)
        assert widest == WINDOW_MAX
        assert len(provider.spans) < 20, "not one for each batch"
        provider.spans.clear()
        near = NEWEST - STABLE_DEPTH + 1
        provider.heights = {near + 3}
        for _ in range(2):
            assert await windows.named(near, near + 9, NEWEST, OURS) == {near + 3}
        assert provider.spans == [(near, near + 9)] * 2, "near the tip each answer is asked for anew"


async def test_other_accounts_are_asked_for_from_where_it_stands() -> None:
    async with run_node() as node:
        provider = Provider(node)
        provider.heights = {1_030}
        windows = LogWindows(CHAIN, JsonRpc(node.url))
        assert await windows.named(1_000, 1_019, NEWEST, [padded("0x" + "0B" * 20)]) == frozenset()
        assert await windows.named(1_020, 1_039, NEWEST, OURS) == {1_030}


async def test_a_provider_that_gives_nothing_or_something_else_is_not_believed() -> None:
    async with run_node() as node:
        windows = LogWindows(CHAIN, JsonRpc(node.url))
        node.error("eth_getLogs", "rate limit exceeded")
        with pytest.raises(RpcRefused):
            await windows.named(1, 20, NEWEST, OURS)
        node.result("eth_getLogs", [{"blockNumber": "0x5000"}])
        with pytest.raises(RpcUnreadable):
            await windows.named(1, 20, NEWEST, OURS)
