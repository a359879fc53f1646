"""What the loop needs from a chain: blocks as facts. Every call talks to the network; none runs in a transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from custody.chains.ports import Head
from custody.kernel.assetid import ChainId
from ingestion.model import BlockFacts

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
