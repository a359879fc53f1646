"""Blocks of an EVM chain through its node's JSON-RPC: blocks and logs of all, receipts of the transactions that touch us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from custody.chains.errors import RpcRefused
from custody.chains.evm.abi import TRANSFER_TOPIC, parse_quantity
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc, require_dict, require_list
from custody.chains.ports import Head
from custody.kernel.assetid import ChainId
from ingestion.errors import InconsistentNode
from ingestion.evm.normalize import BLOCK, LOGS, RECEIPT, named_accounts, normalize, relevant_hashes
from ingestion.model import BlockFacts
from ingestion.ports import Watch

BATCH_BLOCKS = 20
"""Blocks of one fetch."""
BATCH_RECEIPTS = 100
"""Receipts of one request."""


class RpcBlocks:
    """Blocks, as far as they concern us. A `ChainSource`."""

    def __init__(self, chain: ChainId, rpc: JsonRpc, chain_id: int, watch: Watch) -> None:
        """`watch` tells which accounts are vaults: only their transactions' receipts are fetched."""
        self._chain = chain
        self._rpc = rpc
        self._client = EvmRpc(chain, rpc, chain_id)
        self._watch = watch

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        return self._chain

    @property
    def reorganises(self) -> bool:
        """Blocks near the tip may be replaced."""
        return True

    @property
    def batch_max(self) -> int:
        """Blocks of one fetch."""
        return BATCH_BLOCKS

    async def verify_network(self) -> None:
        """Compare the node's chain id with ours. Raises WrongNetwork."""
        await self._client.verify_network()

    async def head(self) -> Head:
        """The newest block."""
        return await self._client.head()

    async def oldest(self) -> int:
        """A node has every block from genesis on."""
        return 0

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        """Blocks from `first` on. Raises InconsistentNode when the chain moved between two questions about one block."""
        last = min(last, first + BATCH_BLOCKS - 1)
        calls = [(BLOCK, [hex(height), True]) for height in range(first, last + 1)]
        blocks = []
        for answer in await self._rpc.call_all(calls):
            if answer is None:
                break
            blocks.append(require_dict(BLOCK, answer))
        for offset, block in enumerate(blocks):
            if parse_quantity(BLOCK, block.get("number")) != first + offset:
                raise InconsistentNode(chain=self._chain, wanted=first + offset)
        logs = await self._logs(blocks)
        named = frozenset[str]().union(
            *(named_accounts(block, each) for block, each in zip(blocks, logs, strict=True))
        )
        ours = await self._watch(named) if named else frozenset()
        wanted = [
            tx_hash
            for block, each in zip(blocks, logs, strict=True)
            for tx_hash in relevant_hashes(block, each, ours)
        ]
        receipts = await self._receipts(wanted)
        return [normalize(self._chain, block, receipts, ours) for block in blocks]

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        """The hashes that the node's chain has at these heights now."""
        answers = await self._rpc.call_all([(BLOCK, [hex(height), False]) for height in heights])
        found = {}
        for height, answer in zip(heights, answers, strict=True):
            if answer is not None:
                found[height] = str(require_dict(BLOCK, answer).get("hash")).lower()
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        await self._rpc.aclose()

    async def _logs(self, blocks: Sequence[Mapping[str, Any]]) -> list[list[dict[str, Any]]]:
        """Each block's Transfer logs, asked for by block hash (EIP-234), so that they are of that block or of none."""
        asked = [index for index, block in enumerate(blocks) if block.get("transactions")]
        calls = [
            (LOGS, [{"blockHash": blocks[index]["hash"], "topics": [TRANSFER_TOPIC]}]) for index in asked
        ]
        found: list[list[dict[str, Any]]] = [[] for _ in blocks]
        try:
            answers = await self._rpc.call_all(calls)
        except RpcRefused as error:
            # The node forgot the block since it named it: it was replaced.
            raise InconsistentNode(chain=self._chain, reason=error.rpc_message) from error
        for index, answer in zip(asked, answers, strict=True):
            found[index] = [require_dict(LOGS, log) for log in require_list(LOGS, answer)]
        return found

    async def _receipts(self, hashes: Sequence[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(hashes), BATCH_RECEIPTS):
            part = hashes[start : start + BATCH_RECEIPTS]
            answers = await self._rpc.call_all([(RECEIPT, [each]) for each in part])
            for tx_hash, answer in zip(part, answers, strict=True):
                if answer is None:
                    raise InconsistentNode(chain=self._chain, tx_hash=tx_hash, reason="no receipt")
                found[tx_hash] = require_dict(RECEIPT, answer)
        return found
