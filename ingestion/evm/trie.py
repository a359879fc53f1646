"""The root of an ordered list in a Merkle-Patricia trie: what a header says of its transactions, receipts and withdrawals. Pure.

Only roots are built, from whole lists; nothing is looked up. Keys are the RLP of the index, none of which begins another one.
Source: the yellow paper, appendix C (hex-prefix), appendix D (trie) and section 4.3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from custody.chains.evm.address import keccak256
from ingestion.evm.rlp import encode

Node: TypeAlias = "bytes | list[Node]"
Leaf: TypeAlias = tuple[tuple[int, ...], bytes]

EMPTY_ROOT = keccak256(encode(b""))
"""Root of a list without items."""


def ordered_root(items: Sequence[bytes]) -> bytes:
    """Root of the trie that maps each item's place to the item."""
    if not items:
        return EMPTY_ROOT
    leaves = sorted((_nibbles(encode(index)), item) for index, item in enumerate(items))
    return keccak256(encode(_build(leaves, 0)))


def _build(leaves: Sequence[Leaf], depth: int) -> Node:
    """The node over leaves that share their first `depth` nibbles."""
    first = leaves[0][0]
    if len(leaves) == 1:
        return [_hex_prefix(first[depth:], leaf=True), leaves[0][1]]
    last = leaves[-1][0]
    shared = depth
    while first[shared] == last[shared]:
        shared += 1
    if shared > depth:
        return [_hex_prefix(first[depth:shared], leaf=False), _embed(_build(leaves, shared))]
    branch: list[Node] = [b""] * 17
    start = 0
    for end in range(1, len(leaves) + 1):
        if end == len(leaves) or leaves[end][0][depth] != leaves[start][0][depth]:
            branch[leaves[start][0][depth]] = _embed(_build(leaves[start:end], depth + 1))
            start = end
    return branch


def _embed(node: Node) -> Node:
    """A node inside its parent: itself when shorter than a hash, else its hash."""
    encoded = encode(node)
    return node if len(encoded) < 32 else keccak256(encoded)


def _nibbles(key: bytes) -> tuple[int, ...]:
    return tuple(half for byte in key for half in (byte >> 4, byte & 15))


def _hex_prefix(path: tuple[int, ...], *, leaf: bool) -> bytes:
    odd = len(path) % 2
    flag = 2 * leaf + odd
    padded = (flag, *path) if odd else (flag, 0, *path)
    return bytes(16 * padded[place] + padded[place + 1] for place in range(0, len(padded), 2))
