"""Does a block continue what we have, and where did two chains part? Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ingestion.model import BlockRef


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


def final_height(ingested: int, confirmations: int, before: int | None) -> int:
    """Up to where blocks are final: so many below the newest. It never falls by itself, only a deep reorganisation lowers it."""
    reached = ingested - confirmations
    return reached if before is None else max(before, reached)
