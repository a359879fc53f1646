"""When the tip is looked at: soon after blocks are due, seldom before, and as ever where a chain keeps no rhythm."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from ingestion.rhythm import FINE_S, KEPT, Rhythm

POLL_S = 0.5


def follow(closes: list[float]) -> tuple[list[float], int]:
    """Ask as a loop does. Returns how late each block was found, and how many questions that took."""
    rhythm = Rhythm(POLL_S)
    now, asked, late = 0.0, 0, []
    waiting = list(closes)
    while waiting:
        asked += 1
        if waiting[0] <= now:
            late.append(now - waiting.pop(0))
            rhythm.found(now)
        else:
            now += rhythm.wait_s(now)
    return late, asked


def test_blocks_in_a_rhythm_are_found_when_they_are_due() -> None:
    chance = Random(3)
    late, asked = follow([5 + number + chance.uniform(0, 0.05) for number in range(100)])
    assert max(late[2 * KEPT :]) < 2 * FINE_S
    assert asked < 100 * (1 / POLL_S + 6)


def test_a_chain_without_rhythm_is_asked_no_less_than_before() -> None:
    chance = Random(4)
    at, closes = 0.0, []
    for _ in range(200):
        at += chance.expovariate(0.2)
        closes.append(at)
    late, asked = follow(closes)
    assert max(late) <= POLL_S
    assert asked < 2 * closes[-1] / POLL_S


def test_a_block_that_does_not_come_is_asked_for_as_where_nothing_is_known() -> None:
    late, asked = follow([*range(1, 20), 600])
    assert late[-1] <= POLL_S
    assert asked < 20 * 20 + 600 / POLL_S


def test_catching_up_teaches_nothing() -> None:
    rhythm = Rhythm(POLL_S)
    for moment in range(20):
        rhythm.found(moment / 1000)
    assert rhythm.wait_s(1.0) == POLL_S


def test_never_waits_longer_than_configured_nor_closer_than_fine() -> None:
    rhythm = Rhythm(POLL_S)
    waits = []
    for here, there in pairwise([0.0, 1.0, 2.0, 3.1, 9.0, 10.0]):
        rhythm.found(here)
        now = here
        while now < there:
            waits.append(rhythm.wait_s(now))
            now += waits[-1]
    assert min(waits) >= FINE_S
    assert max(waits) <= POLL_S
