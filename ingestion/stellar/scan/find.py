"""Walk over a value and stop at the types that somebody wants to read, wherever in it they lie. Pure.

What holds none of them is skipped as a whole. So one description of what is wanted serves every version of ledger and meta.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Generic, TypeVar

from ingestion.stellar.scan.grammar import Many, Node, Option, Ref, Struct, Times, Union
from ingestion.stellar.scan.walk import Skip, Walker, read_count, read_discriminant

S = TypeVar("S")

Find = Callable[[bytes, int, int, S], int]
"""From data, the offset where a value begins, the depth left and who is told, to the offset where it ends."""
Mark = Callable[[bytes, int, S], None]
"""Told that a value of some type begins here, or ended here; what it holds is searched in between."""


class Finder(Generic[S]):
    """Finds values of some types within values of others."""

    def __init__(
        self,
        grammar: Mapping[str, Node],
        walker: Walker,
        *,
        readers: Mapping[str, Find[S]],
        marks: Mapping[str, Mark[S]],
        ends: Mapping[str, Mark[S]],
        closed: Collection[str] = (),
    ) -> None:
        """`readers` read a type to its end; `marks` are told before it is searched, `ends` after; `closed` types are skipped."""
        self._grammar = grammar
        self._walker = walker
        self._readers = readers
        self._marks = marks
        self._ends = ends
        self._closed = frozenset(closed)
        self._wanted = self._holders()
        self._finds: dict[str, Find[S]] = {}

    def find(self, name: str) -> Find[S]:
        """How to search the named type, which must not hold itself. The function raises UnreadableLedger."""
        if name in self._readers:
            return self._readers[name]
        if name not in self._finds:
            self._finds[name] = self._named(name)
        return self._finds[name]

    def _named(self, name: str) -> Find[S]:
        inner = self._build(self._grammar[name], name)
        mark, end = self._marks.get(name), self._ends.get(name)
        if mark is None and end is None:
            return inner

        def find(data: bytes, at: int, depth: int, sink: S) -> int:
            if mark is not None:
                mark(data, at, sink)
            at = inner(data, at, depth, sink)
            if end is not None:
                end(data, at, sink)
            return at

        return find

    def _build(self, node: Node, name: str) -> Find[S]:
        if not self._holds(node):
            return _skipped(self._walker.build(node, name))
        match node:
            case Ref(target):
                return self.find(target)
            case Times(each, count):
                return _times(self._build(each, name), count)
            case Many(each, most):
                return _many(self._build(each, name), most, name)
            case Option(each):
                return _union({0: None, 1: self._build(each, name)}, name)
            case Struct(fields):
                return _struct(tuple(self._build(field, name) for field in fields))
            case Union(arms):
                return _union(
                    {value: None if arm is None else self._build(arm, name) for value, arm in arms}, name
                )
            case _:
                raise ValueError(f"{name} holds nothing to find")

    def _holders(self) -> frozenset[str]:
        """The names of types that are wanted or hold what is."""
        wanted = {*self._readers, *self._marks, *self._ends}
        grown = True
        while grown:
            found = {
                name
                for name, node in self._grammar.items()
                if name not in wanted and name not in self._closed and _refers(node, wanted)
            }
            wanted |= found
            grown = bool(found)
        return frozenset(wanted)

    def _holds(self, node: Node) -> bool:
        return _refers(node, self._wanted)


def _refers(node: Node, names: Collection[str]) -> bool:
    match node:
        case Ref(name):
            return name in names
        case Times(each, _) | Many(each, _) | Option(each):
            return _refers(each, names)
        case Struct(fields):
            return any(_refers(field, names) for field in fields)
        case Union(arms):
            return any(arm is not None and _refers(arm, names) for _, arm in arms)
        case _:
            return False


def _skipped(skip: Skip) -> Find[S]:
    return lambda data, at, depth, _: skip(data, at, depth)


def _times(each: Find[S], count: int) -> Find[S]:
    def find(data: bytes, at: int, depth: int, sink: S) -> int:
        for _ in range(count):
            at = each(data, at, depth, sink)
        return at

    return find


def _many(each: Find[S], most: int, name: str) -> Find[S]:
    def find(data: bytes, at: int, depth: int, sink: S) -> int:
        count = read_count(data, at, most, name)
        at += 4
        for _ in range(count):
            at = each(data, at, depth, sink)
        return at

    return find


def _struct(fields: tuple[Find[S], ...]) -> Find[S]:
    def find(data: bytes, at: int, depth: int, sink: S) -> int:
        for field in fields:
            at = field(data, at, depth, sink)
        return at

    return find


def _union(arms: Mapping[int, Find[S] | None], name: str) -> Find[S]:
    def find(data: bytes, at: int, depth: int, sink: S) -> int:
        arm = arms[read_discriminant(data, at, arms, name)]
        return at + 4 if arm is None else arm(data, at + 4, depth, sink)

    return find
