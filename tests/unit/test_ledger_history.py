"""The checker of histories, fed with bad ones: each anomaly is found and named, and a sound history is left in peace."""

from __future__ import annotations

import random

import pytest

from tests.fakes.ledger_history import Leg, Operation, anomalies


def leg(account: str, version: int, balance: int, change: int) -> Leg:
    return Leg(account=account, version=version, balance=balance, change=change)


def wrote(name: str, start: int, end: int, *legs: Leg, **seen: tuple[int, int]) -> Operation:
    return Operation(name=name, legs=legs, seen=seen, start=start, end=end)


def read(name: str, start: int, end: int, **seen: tuple[int, int]) -> Operation:
    return Operation(name=name, seen=seen, start=start, end=end)


FIRST = wrote("first", 1, 4, leg("a", 1, -5, -5), leg("b", 1, 5, 5))
SECOND = wrote("second", 2, 6, leg("a", 2, -8, -3), leg("b", 2, 8, 3))
SOUND = [FIRST, SECOND, read("between", 3, 8, a=(1, -5), b=(1, 5)), read("after", 9, 10, a=(2, -8), b=(2, 8))]


def test_a_sound_history_is_left_in_peace() -> None:
    assert anomalies(SOUND) == []
    assert anomalies([*SOUND, *SOUND]) == []
    assert anomalies([read("empty", 1, 2, a=(0, 0), b=(7, 70))], {"b": (7, 70)}) == []


BAD = {
    "lost update: first and other both made a v1": [
        FIRST,
        wrote("other", 2, 3, leg("a", 1, -1, -1), leg("c", 1, 1, 1)),
    ],
    "lost update: second makes 3 of 5 to 7 on b": [
        FIRST,
        wrote("second", 2, 6, leg("a", 2, -8, -3), leg("b", 2, 7, 3)),
    ],
    "two effects: first": [FIRST, wrote("first", 1, 9, leg("a", 2, -10, -5), leg("b", 2, 10, 5))],
    "nobody's write: a goes from v1 to v3": [FIRST, wrote("third", 5, 6, leg("a", 3, -9, -1))],
    "nobody's write: dirty saw": [FIRST, read("dirty", 2, 3, a=(2, -8))],
    "nobody's write: wrong saw": [FIRST, read("wrong", 2, 3, a=(1, -4))],
    "stale read": [FIRST, read("stale", 5, 6, a=(0, 0))],
    "read skew": [FIRST, read("torn", 2, 3, a=(1, -5), b=(0, 0))],
    "read skew: back": [FIRST, read("back", 2, 3, b=(1, 5), a=(0, 0))],
    "real time broken": [
        wrote("late", 5, 6, leg("a", 1, -5, -5)),
        wrote("early", 1, 2, leg("a", 2, -6, -1)),
    ],
    "real time broken: future -time-> late": [
        wrote("late", 5, 6, leg("a", 1, -5, -5)),
        read("future", 1, 2, a=(1, -5)),
    ],
    "circular writes": [
        wrote("one", 1, 4, leg("a", 1, 5, 5), leg("b", 2, 3, 1)),
        wrote("two", 2, 3, leg("a", 2, 7, 2), leg("b", 1, 2, 2)),
    ],
    "circular information": [
        wrote("one", 1, 4, leg("a", 1, 5, 5), b=(1, 2)),
        wrote("two", 2, 3, leg("b", 1, 2, 2), a=(1, 5)),
    ],
    "write skew": [
        wrote("one", 1, 4, leg("a", 1, -5, -5), a=(0, 0), b=(0, 0)),
        wrote("two", 2, 3, leg("b", 1, -5, -5), a=(0, 0), b=(0, 0)),
    ],
}
"""What is said of a history, and the history. What follows a second colon is said as well, or a variant's name."""


@pytest.mark.parametrize("said", BAD)
def test_every_anomaly_is_found_and_named(said: str) -> None:
    found = anomalies(BAD[said])
    assert found
    assert all(one.startswith(said.partition(":")[0]) for one in found), found
    assert said.rpartition(":")[2].strip().split()[0] in " ".join(found)


def test_a_cycle_over_many_accounts_is_found() -> None:
    """Each of ten readers sees the next writer's effect and not its own predecessor's: only the whole ring is impossible."""
    ring = 10
    writes = [wrote(f"w{n}", 1, 100, leg(f"a{n}", 1, 5, 5)) for n in range(ring)]
    reads = [read(f"r{n}", 2, 99, **{f"a{n}": (1, 5), f"a{(n + 1) % ring}": (0, 0)}) for n in range(ring)]
    assert anomalies([*writes, *reads[1:]]) == []
    (cycle,) = anomalies([*writes, *reads])
    assert cycle.startswith("write skew")
    assert cycle.count("rw") == ring


@pytest.mark.parametrize("seed", range(20))
def test_any_serial_history_is_sound_and_any_of_its_reads_made_older_is_not(seed: int) -> None:
    chance = random.Random(seed)
    state = dict.fromkeys("abcd", (0, 0))
    history: list[Operation] = []
    for tick in range(200):
        if chance.random() < 0.5:
            accounts = chance.sample("abcd", 2)
            legs = []
            for account, change in zip(accounts, (-3, 3), strict=True):
                version, balance = state[account]
                state[account] = version + 1, balance + change
                legs.append(leg(account, *state[account], change))
            history.append(wrote(f"w{tick}", 10 * tick, 10 * tick + chance.randint(1, 9), *legs))
        else:
            seen = {account: state[account] for account in chance.sample("abcd", 2)}
            history.append(read(f"r{tick}", 10 * tick, 10 * tick + chance.randint(1, 9), **seen))
    assert anomalies(history) == []
    versions = {(one.account, one.version): one.balance for op in history for one in op.legs}
    place = max(n for n, op in enumerate(history) if op.seen)
    account, (version, _) = next(iter(history[place].seen.items()))
    older = {account: (version - 1, versions.get((account, version - 1), 0))}
    history[place] = read(history[place].name, history[place].start, history[place].end, **older)
    assert anomalies(history)[0].startswith("stale read")
