"""A tree of liabilities cut into pages, so that one wallet's proof is read without the rest of the tree. Pure.

A page holds so many neighbouring leaves that it is a whole subtree; above the pages stand their tops. A wallet's leaves follow
from its balance and the tree's secret, they stand in the order of their hashes, and so each is in the last page that begins at
or before it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from custody.seals.liabilities import Leaf, LiabilityTree, PartProof, SumNode, climb, levels

LEAVES = 512
"""Leaves of a page; a power of two. Reading one costs as many hashes."""
_HASH = 32
_NODE = 64


class LeafMissing(LookupError):
    """A leaf is not where its hash says: the pages are not those of this tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Neighbouring leaves of a tree."""

    number: int
    """From 0, in the order of the leaves."""
    first: bytes
    """Hash of its first leaf."""
    leaves: bytes
    """Per leaf 32 bytes of hash and 32 bytes of amount, big-endian."""
    top: SumNode
    """Root of its subtree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """What stands above a page."""

    first: bytes
    """Hash of the page's first leaf."""
    node: SumNode
    """Root of the page's subtree."""


def cut_pages(tree: LiabilityTree, size: int = LEAVES) -> list[Page]:
    """All pages of a tree. `size` is a power of two."""
    pages = []
    for number, start in enumerate(range(0, len(tree.nodes), size)):
        nodes = tree.nodes[start : start + size]
        pages.append(
            Page(
                number=number,
                first=nodes[0].hash,
                leaves=b"".join(node.hash + node.total.to_bytes(_HASH, "big") for node in nodes),
                top=levels(nodes)[-1][0],
            )
        )
    return pages


def find_pages(leaves: Sequence[Leaf], tops: Sequence[Top]) -> list[int]:
    """In which page each leaf stands, if it stands anywhere. Raises LeafMissing when one comes before every page."""
    firsts = [top.first for top in tops]
    numbers = [bisect_right(firsts, leaf.node.hash) - 1 for leaf in leaves]
    if min(numbers) < 0:
        raise LeafMissing
    return numbers


class PagedTree:
    """A tree of which some pages were read. What stands above a leaf is hashed once, for however many wallets."""

    def __init__(self, tops: Sequence[Top], pages: Mapping[int, bytes]) -> None:
        """`pages` by number, those that `find_pages` names."""
        self._tops = tops
        self._above = levels([top.node for top in tops])
        self._pages = pages
        self._below: dict[int, list[list[SumNode]]] = {}

    def prove(self, leaves: Sequence[Leaf]) -> tuple[PartProof, ...]:
        """The proofs of one wallet's leaves, the same and in the same order as the whole tree would give. Raises LeafMissing."""
        proofs = []
        for leaf, number in sorted(zip(leaves, find_pages(leaves, self._tops), strict=True), key=_by_hash):
            page = self._page(number)
            if leaf.node not in page[0]:
                raise LeafMissing
            steps = climb(page, page[0].index(leaf.node)) + climb(self._above, number)
            proofs.append(PartProof(salt=leaf.salt, amount=leaf.amount, steps=steps))
        return tuple(proofs)

    def _page(self, number: int) -> list[list[SumNode]]:
        if number not in self._below:
            packed = self._pages.get(number)
            self._below[number] = [[]] if packed is None else levels(_nodes(packed))
        return self._below[number]


def _by_hash(placed: tuple[Leaf, int]) -> bytes:
    return placed[0].node.hash


def _nodes(packed: bytes) -> list[SumNode]:
    return [
        SumNode(hash=packed[at : at + _HASH], total=int.from_bytes(packed[at + _HASH : at + _NODE], "big"))
        for at in range(0, len(packed), _NODE)
    ]
