"""What the loop needs from a chain: blocks as facts. Every call talks to the network; none runs in a transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from custody.chains.ports import Head
from custody.kernel.assetid import ChainId
from ingestion.model import BlockFacts, BlockRef

Watch = Callable[[frozenset[str]], Awaitable[frozenset[str]]]
"""Which of these accounts are vaults of ours: lets a source fetch details only where they matter."""


class ChainSource(Protocol):
    """Blocks of one chain. Calls raise `Unavailable` errors when asking again helps."""

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        ...

    @property
    def reorganises(self) -> bool:
        """Whether closed blocks may be replaced. Where not, a broken hash chain stops the worker."""
        ...

    @property
    def batch_max(self) -> int:
        """How many blocks one fetch may hold."""
        ...

    async def verify_network(self) -> None:
        """Raises WrongNetwork when the node serves another network."""
        ...

    async def head(self) -> Head:
        """The newest block."""
        ...

    async def oldest(self) -> int:
        """Height of the oldest block that the node can give."""
        ...

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        """The blocks from `first` on in order, without a gap, to `last` or as far as the node gives at once."""
        ...

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        """The hashes that the node's chain has at these heights now; heights it does not have are missing."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


@runtime_checkable
class Vouching(Protocol):
    """What a chain that reorganises is asked beside its blocks: how final they are, and who else has them."""

    async def tagged(self, tag: str, tip: BlockRef | None) -> Head | None:
        """The node's block of this tag (`safe`, `finalized`); None where the node's chain does not hold `tip`."""
        ...

    async def witnesses(self, blocks: Mapping[str, int]) -> dict[str, frozenset[str]]:
        """Which providers name these hashes at these heights now, each by its name. Who does not answer names nothing."""
        ...
