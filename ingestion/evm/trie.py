"""The root of an ordered list in a Merkle-Patricia trie: what a header says of its transactions, receipts and withdrawals. Pure.

Only roots are built, from whole lists; nothing is looked up. Keys are the RLP of the index, none of which begins another one: so
the number of items alone tells the trie's shape, which is kept for the numbers seen lately.
Source: the yellow paper, appendix C (hex-prefix), appendix D (trie) and section 4.3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from custody.chains.evm.address import keccak256
from ingestion.evm.rlp import encode, encode_bytes, encode_list

EMPTY_ROOT = keccak256(encode(b""))
"""Root of a list without items."""
_NOTHING = encode(b"")
_SHAPES_KEPT = 256
"""A few hundred kilobytes for blocks of a hundred transactions."""


@dataclass(frozen=True, slots=True)
class _Leaf:
    place: int
    """Which item it holds."""
    path: bytes
    """The rest of its key, encoded."""


@dataclass(frozen=True, slots=True)
class _Branch:
    path: bytes
    """Nibbles that all below share, encoded: an extension above the branch. Empty for none."""
    children: tuple[_Leaf | _Branch | None, ...]
    """Sixteen."""


def ordered_root(items: Sequence[bytes]) -> bytes:
    """Root of the trie that maps each item's place to the item."""
    if not items:
        return EMPTY_ROOT
    return keccak256(_encoded(_shape(len(items)), items))


@lru_cache(maxsize=_SHAPES_KEPT)
def _shape(count: int) -> _Leaf | _Branch:
    """The trie of so many items."""
    return _build(sorted((encode(place).hex(), place) for place in range(count)), 0)


def _build(keys: Sequence[tuple[str, int]], depth: int) -> _Leaf | _Branch:
    """The node over keys, in hex, that share their first `depth` nibbles."""
    first, place = keys[0]
    if len(keys) == 1:
        return _Leaf(place, _hex_prefix(first[depth:], leaf=True))
    last = keys[-1][0]
    shared = depth
    while first[shared] == last[shared]:
        shared += 1
    below: dict[str, list[tuple[str, int]]] = {}
    for key in keys:
        below.setdefault(key[0][shared], []).append(key)
    children = [
        _build(below[nibble], shared + 1) if nibble in below else None for nibble in "0123456789abcdef"
    ]
    path = _hex_prefix(first[depth:shared], leaf=False) if shared > depth else b""
    return _Branch(path, tuple(children))


def _encoded(node: _Leaf | _Branch, items: Sequence[bytes]) -> bytes:
    """The node in RLP."""
    if isinstance(node, _Leaf):
        return encode_list(node.path + encode_bytes(items[node.place]))
    below = [_NOTHING if child is None else _reference(_encoded(child, items)) for child in node.children]
    branch = encode_list(b"".join(below) + _NOTHING)
    return encode_list(node.path + _reference(branch)) if node.path else branch


def _reference(encoded: bytes) -> bytes:
    """A node inside its parent: itself when shorter than a hash, else its hash."""
    return encoded if len(encoded) < 32 else b"\xa0" + keccak256(encoded)


def _hex_prefix(path: str, *, leaf: bool) -> bytes:
    """Nibbles, in hex, and whether the node is a leaf, encoded."""
    odd = len(path) % 2
    flag = f"{2 * leaf + odd:x}"
    return encode_bytes(bytes.fromhex(flag + path if odd else flag + "0" + path))
