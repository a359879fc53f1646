"""Where a balance changed unseen: gaps between states, and the blocks that halving finds in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.holdings.model import HeldAt
from ingestion.survey.search import Gap, find_changes, gaps_of


def state(height: int, before: int, amount: int) -> HeldAt:
    return HeldAt(height=height, before=before, amount=amount)


@pytest.mark.parametrize(
    ("states", "now", "gaps"),
    [
        ([], 0, []),
        ([], 5, [(0, 0, 100, 5)]),
        ([state(10, 0, 5)], 5, []),
        ([state(10, 2, 5)], 5, [(0, 0, 9, 2)]),
        ([state(10, 0, 5), state(20, 7, 9)], 4, [(10, 5, 19, 7), (20, 9, 100, 4)]),
        # Next to each other nothing lies between them: a node that contradicts itself is no gap.
        ([state(10, 0, 5), state(11, 7, 9)], 9, []),
        ([state(100, 0, 5)], 5, []),
    ],
)
def test_states_that_do_not_continue_each_other_have_a_gap(
    states: list[HeldAt], now: int, gaps: list[tuple[int, int, int, int]]
) -> None:
    found = gaps_of(state(0, 0, 0), states, state(100, now, now))
    assert [(each.low, each.before, each.high, each.after) for each in found] == gaps


@given(changes=st.dictionaries(st.integers(1, 1000), st.integers(1, 9), min_size=1, max_size=12))
async def test_payments_are_found_in_their_blocks_with_few_questions(changes: dict[int, int]) -> None:
    asked = 0

    async def ask(height: int) -> int:
        nonlocal asked
        asked += 1
        return sum(amount for block, amount in changes.items() if block <= height)

    gap = Gap(low=0, before=0, high=1000, after=sum(changes.values()))
    assert await find_changes(gap, ask, 99) == sorted(changes)
    assert asked <= 11 * len(changes)


async def test_no_more_blocks_are_searched_for_than_allowed_and_the_lowest_come_first() -> None:
    async def ask(height: int) -> int:
        return height

    gap = Gap(low=0, before=0, high=50, after=50)
    assert await find_changes(gap, ask, 3) == [1, 2, 3]
    assert await find_changes(gap, ask, 0) == []
