"""Does a block continue what we have, and where did two chains part? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ingestion.model import BlockRef

NOTHING_FINAL = -1
"""Below any block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The block up to which everything is booked."""

    height: int
    hash: str


def continues(position: Position | None, block: BlockRef) -> bool:
    """Whether the block stands directly on our position. The first block of all stands on nothing."""
    if position is None:
        return True
    return block.height == position.height + 1 and block.parent_hash == position.hash


def fork_point(kept: Mapping[int, str], seen: Mapping[int, str]) -> Position | None:
    """The highest block that our record and the node's chain share, among the heights that both name; None when none is."""
    shared = [height for height, block_hash in kept.items() if seen.get(height) == block_hash]
    return Position(height=max(shared), hash=kept[max(shared)]) if shared else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalityRule:
    """When a block is final: so many blocks follow, and, where a tag is named, the node's block of that tag is not below it."""

    confirmations: int
    tag: str = ""
    """`safe` or `finalized`; empty for none."""

    def reached(self, ingested: int, tagged: Mapping[str, int]) -> int | None:
        """Up to where blocks are final when `ingested` is the newest; None while nobody has vouched for a height by the tag."""
        counted = ingested - self.confirmations
        if not self.tag:
            return counted
        return min(counted, tagged[self.tag]) if self.tag in tagged else None


def final_height(reached: int | None, before: int | None) -> int:
    """The height that is final now; below any block while there is none. It never falls by itself: only a deep reorganisation
    lowers it."""
    return max(NOTHING_FINAL if each is None else each for each in (reached, before))
