"""Paths in the tree of RFC 6962: how one leaf is shown to belong to a root without the other leaves. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from custody.ledger.leaves import node_hash

Step = tuple[Literal["left", "right"], bytes]
"""The neighbour to be hashed with: on which side it stands, and its hash."""


def path(leaves: Sequence[bytes], index: int) -> tuple[Step, ...]:
    """The steps from the leaf at `index` up to the root. Raises IndexError when there is no such leaf."""
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    steps: list[Step] = []
    level = list(leaves)
    while len(level) > 1:
        if index % 2:
            steps.append(("left", level[index - 1]))
        elif index + 1 < len(level):
            steps.append(("right", level[index + 1]))
        paired = [node_hash(level[n], level[n + 1]) for n in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
        index //= 2
    return tuple(steps)


def climb(leaf: bytes, steps: Sequence[Step]) -> bytes:
    """The root to which these steps lead from a leaf."""
    node = leaf
    for side, neighbour in steps:
        node = node_hash(neighbour, node) if side == "left" else node_hash(node, neighbour)
    return node
