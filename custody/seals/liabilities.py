"""What is owed to all wallets, provable to each of them: a Merkle tree that adds up. Pure.

Every node carries the sum of what is under it, and its hash covers the hashes and sums of both children, so that nobody can be
left out or counted below zero without some wallet's proof failing. A wallet's balance is cut into parts at secret places, and
its leaves stand in an order that follows from salted hashes: a proof shows hashes and sums of groups of parts, and neither whose
they are nor anybody's balance. What it cannot hide is that the total is what it is.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal
from uuid import UUID

from custody.kernel.money import MAX_ATOMIC
from custody.seals.errors import NegativeBalance, NotInTree

PARTS = 4
"""Into how many leaves a balance is cut."""
_WIDTH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class SumNode:
    """A hash and what lies under it, in atomic units."""

    hash: bytes
    """SHA-256."""
    total: int
    """Sum of the leaves below."""


SumStep = tuple[Literal["left", "right"], SumNode]
"""The neighbour on the way up, and on which side it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartProof:
    """That one part of a wallet's balance is in the tree."""

    salt: bytes
    """Keeps others from trying wallet ids against the leaf."""
    amount: int
    """Atomic units of this part."""
    steps: tuple[SumStep, ...]
    """From the leaf up to the root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One part of a wallet's balance, as the tree's maker knows it."""

    wallet: UUID
    """Whose."""
    salt: bytes
    """Follows from the tree's secret, the wallet and the part's number."""
    amount: int
    """Atomic units of this part."""
    node: SumNode
    """What stands in the tree."""


def leaf_node(wallet: UUID, salt: bytes, amount: int) -> SumNode:
    """A part as a leaf: H(0x00 ‖ H(salt ‖ wallet) ‖ amount), the wallet as its 16 bytes, amounts as 32 bytes big-endian."""
    owner = sha256(salt + wallet.bytes).digest()
    return SumNode(hash=sha256(b"\x00" + owner + amount.to_bytes(_WIDTH, "big")).digest(), total=amount)


def parent(left: SumNode, right: SumNode) -> SumNode:
    """The node above two others: H(0x01 ‖ left hash ‖ left sum ‖ right hash ‖ right sum)."""
    sums = (left.total.to_bytes(_WIDTH, "big"), right.total.to_bytes(_WIDTH, "big"))
    digest = sha256(b"\x01" + left.hash + sums[0] + right.hash + sums[1]).digest()
    return SumNode(hash=digest, total=left.total + right.total)


class LiabilityTree:
    """The tree over one asset's wallets at one checkpoint."""

    def __init__(self, balances: Mapping[UUID, int], secret: bytes) -> None:
        """`balances` in atomic units; wallets without one take no part. Raises NegativeBalance, ValueError when all are zero."""
        leaves: list[Leaf] = []
        for wallet, balance in balances.items():
            if balance < 0:
                raise NegativeBalance(wallet=str(wallet), balance=balance)
            if balance:
                leaves.extend(cut(wallet, balance, secret))
        if not leaves:
            raise ValueError("nothing is owed")
        self._leaves = sorted(leaves, key=lambda leaf: leaf.node.hash)
        self._levels = levels([leaf.node for leaf in self._leaves])
        self.wallets = len(leaves) // PARTS

    @property
    def root(self) -> SumNode:
        """What is published: one hash and the total owed."""
        return self._levels[-1][0]

    @property
    def nodes(self) -> list[SumNode]:
        """The leaves in their order."""
        return self._levels[0]

    def prove(self, wallet: UUID) -> tuple[PartProof, ...]:
        """A proof for each part of the wallet's balance. Raises NotInTree."""
        places = [place for place, leaf in enumerate(self._leaves) if leaf.wallet == wallet]
        if not places:
            raise NotInTree(wallet=str(wallet))
        return tuple(
            PartProof(
                salt=self._leaves[place].salt,
                amount=self._leaves[place].amount,
                steps=climb(self._levels, place),
            )
            for place in places
        )


def verify(root: SumNode, wallet: UUID, balance: int, proofs: Sequence[PartProof]) -> bool:
    """Whether these parts are different leaves of the tree under this root, belong to the wallet, and make its balance."""
    leaves = {leaf_node(wallet, part.salt, part.amount).hash for part in proofs if _sound(part)}
    return (
        len(leaves) == len(proofs) > 0
        and sum(part.amount for part in proofs) == balance
        and all(_climb(wallet, part) == root for part in proofs)
    )


def _sound(part: PartProof) -> bool:
    sums = (part.amount, *(node.total for _, node in part.steps))
    return all(0 <= each <= MAX_ATOMIC for each in sums) and sum(sums) <= MAX_ATOMIC


def _climb(wallet: UUID, part: PartProof) -> SumNode:
    node = leaf_node(wallet, part.salt, part.amount)
    for side, neighbour in part.steps:
        node = parent(neighbour, node) if side == "left" else parent(node, neighbour)
    return node


def cut(wallet: UUID, balance: int, secret: bytes) -> list[Leaf]:
    """A wallet's balance as leaves, at places that only the secret tells."""
    cuts = sorted(
        int.from_bytes(_derived(secret, "cut", wallet, number), "big") % (balance + 1)
        for number in range(1, PARTS)
    )
    edges = [0, *cuts, balance]
    parts = []
    for number in range(PARTS):
        salt = _derived(secret, "salt", wallet, number)
        amount = edges[number + 1] - edges[number]
        parts.append(Leaf(wallet=wallet, salt=salt, amount=amount, node=leaf_node(wallet, salt, amount)))
    return parts


def _derived(secret: bytes, use: str, wallet: UUID, number: int) -> bytes:
    return hmac.digest(secret, f"{use}|{wallet}|{number}".encode(), "sha256")


def levels(nodes: list[SumNode]) -> list[list[SumNode]]:
    """All levels from these nodes up to their root. A node without a neighbour goes up as it is."""
    found = [nodes]
    while len(nodes) > 1:
        paired = [parent(nodes[n], nodes[n + 1]) for n in range(0, len(nodes) - 1, 2)]
        nodes = paired + nodes[len(paired) * 2 :]
        found.append(nodes)
    return found


def climb(tree: Sequence[Sequence[SumNode]], place: int) -> tuple[SumStep, ...]:
    """The neighbours on the way from a place on the lowest level up to the root."""
    steps: list[SumStep] = []
    for level in tree[:-1]:
        if place % 2:
            steps.append(("left", level[place - 1]))
        elif place + 1 < len(level):
            steps.append(("right", level[place + 1]))
        place //= 2
    return tuple(steps)
