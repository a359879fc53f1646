"""Several providers of one EVM chain: the shared failover, and what a chain that reorganises is asked beside its blocks.

Near the tip providers differ for good reasons, so nothing stops when they do. A block's hash is asked of all of them when a large
credit hangs on it, and what the hash holds is proved (`prove`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import structlog

from custody.chains.ports import Head
from custody.kernel.assetid import AssetId
from ingestion.evm.sources import RpcBlocks
from ingestion.failover import Failover
from ingestion.model import BlockFacts, BlockRef

_log = structlog.get_logger(__name__)


class EvmProviders(Failover[RpcBlocks]):
    """A `ChainSource` of one or several, and `Vouching`."""

    async def tagged(self, tag: str, tip: BlockRef | None) -> Head | None:
        """The block of this tag by the provider that is read from; None where its chain does not hold `tip`."""
        return await self.ask_first(lambda source: source.tagged(tag, tip))

    async def balances(self, block_hash: str, questions: Sequence[tuple[str, AssetId]]) -> list[int | None]:
        """Each balance after a block, by the first provider that has its state. Raises StateUnavailable where none has."""
        return await self.ask_first(lambda source: source.balances(block_hash, questions))

    async def fetch_naming(
        self, height: int, questions: Collection[tuple[str, AssetId]]
    ) -> BlockFacts | None:
        """One block as if it had named these accounts; see `RpcBlocks.fetch_naming`."""
        return await self.ask_first(lambda source: source.fetch_naming(height, questions))

    async def witnesses(self, blocks: Mapping[str, int]) -> dict[str, frozenset[str]]:
        """Which providers name these hashes at these heights now. Who rests or does not answer names nothing."""
        heights = sorted(set(blocks.values()))
        answers = await self.ask_all(lambda source: source.hashes(heights))
        for block_hash, height in blocks.items():
            others = {
                name: named[height]
                for name, named in answers.items()
                if named.get(height, block_hash) != block_hash
            }
            if others:
                _log.error(
                    "ingestion.providers_differ",
                    chain=self.chain,
                    height=height,
                    ours=block_hash,
                    others=others,
                )
        return {
            block_hash: frozenset(name for name, named in answers.items() if named.get(height) == block_hash)
            for block_hash, height in blocks.items()
        }
