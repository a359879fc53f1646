"""Where chains part and what is final, decided on values."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.chains.errors import RpcUnreachable
from custody.kernel.errors import InvariantViolated
from ingestion.backoff import BACKOFF_MAX_S, BACKOFF_MIN_S, backoff
from ingestion.model import BlockRef
from ingestion.reading import read_alike
from ingestion.reorg import NOTHING_FINAL, FinalityRule, Position, continues, final_height, fork_point
from ingestion.retry import may_retry


def block(height: int, block_hash: str, parent: str) -> BlockRef:
    return BlockRef(
        height=height, hash=block_hash, parent_hash=parent, closed_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize(
    ("next_block", "expected"),
    [
        (block(11, "b", "a"), True),
        (block(11, "b", "x"), False),
        (block(12, "b", "a"), False),
        (block(10, "b", "a"), False),
    ],
)
def test_a_block_continues_only_the_block_directly_below_it(next_block: BlockRef, expected: bool) -> None:
    assert continues(Position(height=10, hash="a"), next_block) is expected


def test_the_first_block_of_all_stands_on_nothing() -> None:
    assert continues(None, block(7, "b", "anything"))


@given(shared=st.integers(0, 20), ours=st.integers(0, 20), theirs=st.integers(0, 20))
def test_the_fork_point_is_the_last_shared_block(shared: int, ours: int, theirs: int) -> None:
    kept = {h: f"s{h}" for h in range(shared)} | {h: f"o{h}" for h in range(shared, shared + ours)}
    seen = {h: f"s{h}" for h in range(shared)} | {h: f"t{h}" for h in range(shared, shared + theirs)}
    expected = Position(height=shared - 1, hash=f"s{shared - 1}") if shared else None
    assert fork_point(kept, seen) == expected


HEIGHTS = st.integers(0, 1000)


@given(
    tag=st.sampled_from(["", "safe", "finalized"]),
    confirmations=st.integers(0, 100),
    steps=st.lists(st.tuples(HEIGHTS, st.none() | HEIGHTS), min_size=1, max_size=20),
)
def test_a_final_height_meets_both_parts_of_its_rule_and_never_falls_by_itself(
    tag: str, confirmations: int, steps: list[tuple[int, int | None]]
) -> None:
    rule = FinalityRule(confirmations=confirmations, tag=tag)
    before, highest = None, NOTHING_FINAL
    for ingested, vouched in steps:
        reached = rule.reached(ingested, {} if vouched is None else {"safe": vouched, "finalized": vouched})
        if tag and vouched is None:
            assert reached is None
        else:
            assert reached == min(ingested - confirmations, ingested if not tag else vouched or 0)
            highest = max(highest, reached)
        after = final_height(reached, before)
        assert after == highest
        before = after


@given(failures=st.integers(1, 10_000))
def test_the_wait_grows_to_a_cap(failures: int) -> None:
    assert BACKOFF_MIN_S / 2 <= backoff(failures) <= BACKOFF_MAX_S


def test_a_broken_invariant_is_never_retried_and_a_silent_node_is() -> None:
    assert may_retry(RpcUnreachable(method="head"))
    assert may_retry(ConnectionResetError())
    assert not may_retry(InvariantViolated("books"))


@given(
    kept=st.none() | st.integers(0, 20), wanted=st.none() | st.integers(0, 20), highest=st.integers(-1, 20)
)
def test_ways_of_reading_are_alike_when_they_are_for_each_block_that_is_ingested(
    kept: int | None, wanted: int | None, highest: int
) -> None:
    def calls(calls_from: int | None, height: int) -> bool:
        return calls_from is not None and height >= calls_from

    alike = all(calls(kept, height) == calls(wanted, height) for height in range(highest + 1))
    assert read_alike(kept, wanted, highest) == alike
