"""Whether what concurrent clients saw can have happened in one order that respects real time: strict serialisability.

Every account numbers its entries, and every answer carries the numbers, so the order of writes on an account need not be
guessed: it is read off. From it follow all dependencies between operations (who overwrote whom, who read whom, who was read
before being overwritten), and with the clients' own clock also who had ended before another began. The history is sound when the
graph of all these has no cycle. After the idea of Elle (Kingsbury and Alvaro, 2020), with versions in place of lists.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Account = str


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One entry that an operation made, as it was answered."""

    account: Account
    version: int
    balance: int
    """Balance after it."""
    change: int | None
    """What the caller asked to change the balance by. None where it left that to the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A chain that was applied, balances that were read together, or both in one transaction."""

    name: str
    """By which it is known: one name, one effect."""
    legs: tuple[Leg, ...] = ()
    """What it wrote."""
    seen: Mapping[Account, tuple[int, int]] = field(default_factory=dict)
    """What it read: by account, version and balance."""
    start: int
    end: int
    """Ticks of one clock for all clients: it began after `start`, and was answered before `end`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """One operation must come before another, and why."""

    source: str
    target: str
    why: str
    """ww, wr, rw, or time."""


def anomalies(
    history: Sequence[Operation], opening: Mapping[Account, tuple[int, int]] | None = None
) -> list[str]:
    """Everything that no order explains, in words; empty for a sound history. `opening` is what was there before it began."""
    writers, found = _writers(history)
    found += _running(writers, opening or {})
    found += _reads(history, writers, opening or {})
    if found:
        return found
    edges = [*_dependencies(history, writers), *_time(history)]
    return [_describe(cycle) for cycle in _cycles(edges)]


Writers = dict[Account, dict[int, tuple[Operation, Leg]]]


def _writers(history: Sequence[Operation]) -> tuple[Writers, list[str]]:
    """Who made each version. An operation that is told twice must be told the same."""
    writers: Writers = defaultdict(dict)
    known: dict[str, Operation] = {}
    found = []
    for write in (one for one in history if one.legs):
        twin = known.setdefault(write.name, write)
        if twin.legs != write.legs:
            found.append(f"two effects: {write.name} is {twin.legs} and {write.legs}")
            continue
        for leg in write.legs:
            owner, _ = writers[leg.account].setdefault(leg.version, (write, leg))
            if owner.name != write.name:
                found.append(
                    f"lost update: {owner.name} and {write.name} both made {leg.account} v{leg.version}"
                )
    return writers, found


def _running(writers: Writers, opening: Mapping[Account, tuple[int, int]]) -> list[str]:
    """Versions without gaps, and each balance the one before it plus the change."""
    found = []
    for account, versions in writers.items():
        version, balance = opening.get(account, (0, 0))
        for number in sorted(versions):
            write, leg = versions[number]
            if number != version + 1:
                found.append(f"nobody's write: {account} goes from v{version} to v{number}")
            elif leg.change is not None and leg.balance != balance + leg.change:
                found.append(
                    f"lost update: {write.name} makes {leg.change} of {balance} to {leg.balance} on {account}"
                )
            version, balance = number, leg.balance
    return found


def _reads(
    history: Sequence[Operation], writers: Writers, opening: Mapping[Account, tuple[int, int]]
) -> list[str]:
    """What was read is what somebody wrote."""
    found = []
    for read in history:
        for account, (version, balance) in read.seen.items():
            made = writers.get(account, {}).get(version)
            first = opening.get(account, (0, 0))
            if (version, balance) != ((version, made[1].balance) if made else first):
                found.append(f"nobody's write: {read.name} saw {balance} at {account} v{version}")
    return found


def _dependencies(history: Sequence[Operation], writers: Writers) -> Iterable[Edge]:
    for versions in writers.values():
        ordered = sorted(versions)
        for before, after in pairwise(ordered):
            yield Edge(source=versions[before][0].name, target=versions[after][0].name, why="ww")
    for read in history:
        for account, (version, _) in read.seen.items():
            versions = writers.get(account, {})
            if version in versions:
                yield Edge(source=versions[version][0].name, target=read.name, why="wr")
            if version + 1 in versions:
                yield Edge(source=read.name, target=versions[version + 1][0].name, why="rw")


def _time(history: Sequence[Operation]) -> Iterable[Edge]:
    """Who ended before another began. By way of one node per moment, so that there are few edges. An operation that was answered
    twice had ended by its first answer."""
    spans: dict[str, tuple[int, int]] = {}
    for one in history:
        start, end = spans.get(one.name, (one.start, one.end))
        spans[one.name] = min(start, one.start), min(end, one.end)
    moments = sorted({moment for span in spans.values() for moment in span})
    for before, after in pairwise(moments):
        yield Edge(source=f"@{before}", target=f"@{after}", why="time")
    for name, (start, end) in spans.items():
        yield Edge(source=name, target=f"@{end}", why="time")
        yield Edge(source=f"@{start}", target=name, why="time")


def _cycles(edges: Iterable[Edge]) -> list[list[Edge]]:
    """One cycle of each knot of operations that cannot be put in order."""
    out: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        if edge.source != edge.target:
            out[edge.source].append(edge)
    return [_cycle_in(knot, out) for knot in _knots(out)]


def _knots(out: Mapping[str, Sequence[Edge]]) -> list[set[str]]:
    """Strongly connected components of more than one node. Source: Tarjan 1972, without recursion."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    knots = []
    for root in list(out):
        if root in index:
            continue
        work = [(root, iter(out.get(root, ())))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on_stack.add(root)
        while work:
            node, edges = work[-1]
            for edge in edges:
                if edge.target not in index:
                    index[edge.target] = low[edge.target] = len(index)
                    stack.append(edge.target)
                    on_stack.add(edge.target)
                    work.append((edge.target, iter(out.get(edge.target, ()))))
                    break
                if edge.target in on_stack:
                    low[node] = min(low[node], index[edge.target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    knot = set()
                    while node not in knot:
                        knot.add(stack.pop())
                    on_stack -= knot
                    if len(knot) > 1:
                        knots.append(knot)
    return knots


def _cycle_in(knot: set[str], out: Mapping[str, Sequence[Edge]]) -> list[Edge]:
    """A shortest cycle through some operation of the knot."""
    start = min(name for name in knot if not name.startswith("@"))
    reached: dict[str, list[Edge]] = {start: []}
    queue = [start]
    for node in queue:
        for edge in out[node]:
            if edge.target == start:
                return [*reached[node], edge]
            if edge.target in knot and edge.target not in reached:
                reached[edge.target] = [*reached[node], edge]
                queue.append(edge.target)
    raise AssertionError("a knot without a cycle")


def _describe(cycle: Sequence[Edge]) -> str:
    """What kind of anomaly the cycle is, and the way round it."""
    kinds = [edge.why for edge in cycle]
    if "time" in kinds:
        name = "stale read" if "rw" in kinds else "real time broken"
    elif "rw" not in kinds:
        name = "circular writes" if set(kinds) == {"ww"} else "circular information"
    else:
        name = "read skew" if kinds.count("rw") == 1 else "write skew"
    steps = [f"-{edge.why}-> {edge.target}" for edge in cycle if not edge.target.startswith("@")]
    return f"{name}: {cycle[0].source} {' '.join(steps)}"
