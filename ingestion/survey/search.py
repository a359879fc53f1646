"""In which blocks did a balance change that was seen to differ between two heights? No IO but the question itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from custody.holdings.model import HeldAt

Ask = Callable[[int], Awaitable[int]]
"""The balance after the block at a height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Two heights between which a balance changed, though no block in between that we read says so."""

    low: int
    """Height of a block after which the balance was `before`."""
    before: int
    """Atomic units."""
    high: int
    """Height of a block above it after which the balance was `after`."""
    after: int
    """Atomic units, another amount."""


def gaps_of(base: HeldAt, states: Sequence[HeldAt], last: HeldAt) -> list[Gap]:
    """Where a holding's states do not continue each other, from a base that is known up to what is asked for now. Pure.

    A state says what its block found and left; what it found was left by the block before.
    """
    found = []
    known = base
    for state in (*states, HeldAt(height=last.height + 1, before=last.amount, amount=last.amount)):
        if state.before != known.amount and state.height - 1 > known.height:
            found.append(
                Gap(low=known.height, before=known.amount, high=state.height - 1, after=state.before)
            )
        known = state
    return found


async def find_changes(gap: Gap, ask: Ask, most: int) -> list[int]:
    """Heights of blocks that changed the balance, lowest first: all of them, but for changes that undo each other and beyond
    `most`. Asks about the logarithm of the gap's length for each."""
    found: list[int] = []
    at, amount = gap.low, gap.before
    while amount != gap.after and len(found) < most:
        low, high = at, gap.high
        while high - low > 1:
            middle = (low + high) // 2
            if await ask(middle) == amount:
                low = middle
            else:
                high = middle
        found.append(high)
        at, amount = high, gap.after if high == gap.high else await ask(high)
    return found
