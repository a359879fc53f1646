"""Walk over any value of the grammar without building it: where does it end, or what is wrong with it? Pure.

Total where the patterns are partial: every type of the grammar is walked, every byte is accounted for, and what the grammar does
not allow is refused by the type's name and the offset. Nothing is allocated by a length that the input claims.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Collection, Mapping

from ingestion.errors import UnreadableLedger
from ingestion.stellar.scan.grammar import Enum, Fixed, Many, Node, Opaque, Option, Ref, Struct, Times, Union
from ingestion.stellar.scan.patterns import Patterns

Skip = Callable[[bytes, int, int], int]
"""From data, the offset where a value begins and the depth that is left, to the offset where it ends."""

DEPTH_MAX = 128
"""How often a recursive type may lie within itself. Soroban's host allows values of depth 100; a level costs six frames."""

_INT32 = struct.Struct(">i")
_UINT32 = struct.Struct(">I")


class Walker:
    """Skips values of the types of one grammar."""

    def __init__(self, grammar: Mapping[str, Node], patterns: Patterns, fast: Collection[str]) -> None:
        """The types named in `fast` are tried by their pattern before they are walked."""
        self._grammar = grammar
        self._fast = {name: patterns.compiled(name) for name in fast}
        self._skips: dict[str, Skip] = {}
        self._open: set[str] = set()
        for name in grammar:
            self._named(name)

    def skip(self, name: str) -> Skip:
        """How to skip the named type. The function raises UnreadableLedger."""
        return self._skips[name]

    def build(self, node: Node, name: str) -> Skip:
        """How to skip a value of this shape, named so in refusals."""
        match node:
            case Fixed(size):
                skip = _fixed(size, name)
            case Opaque(most):
                skip = _opaque(most, name)
            case Enum(values):
                skip = _enum(frozenset(values), name)
            case Times(each, count):
                skip = _times(self.build(each, name), count)
            case Many(each, most):
                skip = _many(self.build(each, name), most, name)
            case Option(each):
                skip = _option(self.build(each, name), name)
            case Struct(fields):
                skip = _struct(tuple(self.build(field, name) for field in fields))
            case Union(arms):
                built = {value: None if arm is None else self.build(arm, name) for value, arm in arms}
                skip = _union(built, name)
            case Ref(target):
                skip = self._named(target)
        return skip

    def _named(self, name: str) -> Skip:
        if name in self._open:
            return self._again(name)
        if name not in self._skips:
            self._open.add(name)
            walked = self.build(self._grammar[name], name)
            self._skips[name] = _first_by(self._fast[name], walked) if name in self._fast else walked
            self._open.remove(name)
        return self._skips[name]

    def _again(self, name: str) -> Skip:
        """A type within itself: the only way in which an input can be deep."""
        skips = self._skips

        def skip(data: bytes, at: int, depth: int) -> int:
            if depth <= 0:
                raise refusal(name, at, "nested too deeply")
            return skips[name](data, at, depth - 1)

        return skip


def refusal(name: str, offset: int, reason: str) -> UnreadableLedger:
    """The error that says which type could not be read, and where."""
    return UnreadableLedger(type=name, offset=offset, reason=reason)


def read_count(data: bytes, at: int, most: int, name: str) -> int:
    """A list's count at this offset. Raises UnreadableLedger for more items than are allowed or than there are bytes left."""
    try:
        (count,) = _UINT32.unpack_from(data, at)
    except struct.error:
        raise refusal(name, at, "ends within a count") from None
    if count > most:
        raise refusal(name, at, f"holds {count} items where {most} are allowed")
    if count > len(data) - at - 4:
        raise refusal(name, at, f"claims {count} items where {len(data) - at - 4} bytes are left")
    return int(count)


def read_discriminant(data: bytes, at: int, known: Collection[int], name: str) -> int:
    """The number at this offset. Raises UnreadableLedger when it is none of those known."""
    try:
        (value,) = _INT32.unpack_from(data, at)
    except struct.error:
        raise refusal(name, at, "ends within a discriminant") from None
    if value not in known:
        raise refusal(name, at, f"knows no {value}")
    return int(value)


def _first_by(pattern: re.Pattern[bytes], walked: Skip) -> Skip:
    match = pattern.match

    def skip(data: bytes, at: int, depth: int) -> int:
        found = match(data, at)
        return walked(data, at, depth) if found is None else found.end()

    return skip


def _fixed(size: int, name: str) -> Skip:
    def skip(data: bytes, at: int, _: int) -> int:
        end = at + size
        if end > len(data):
            raise refusal(name, at, f"{size} bytes are wanted where {len(data) - at} are left")
        return end

    return skip


def _opaque(most: int, name: str) -> Skip:
    def skip(data: bytes, at: int, _: int) -> int:
        try:
            (size,) = _UINT32.unpack_from(data, at)
        except struct.error:
            raise refusal(name, at, "ends within a length") from None
        end = at + 4 + (size + 3 & ~3)
        if size > most or end > len(data):
            raise refusal(name, at, f"claims {size} bytes where {min(most, len(data) - at - 4)} are possible")
        return int(end)

    return skip


def _enum(values: frozenset[int], name: str) -> Skip:
    def skip(data: bytes, at: int, _: int) -> int:
        read_discriminant(data, at, values, name)
        return at + 4

    return skip


def _times(each: Skip, count: int) -> Skip:
    def skip(data: bytes, at: int, depth: int) -> int:
        for _ in range(count):
            at = each(data, at, depth)
        return at

    return skip


def _many(each: Skip, most: int, name: str) -> Skip:
    def skip(data: bytes, at: int, depth: int) -> int:
        count = read_count(data, at, most, name)
        at += 4
        for _ in range(count):
            at = each(data, at, depth)
        return at

    return skip


def _option(each: Skip, name: str) -> Skip:
    present = frozenset((0, 1))

    def skip(data: bytes, at: int, depth: int) -> int:
        return each(data, at + 4, depth) if read_discriminant(data, at, present, name) else at + 4

    return skip


def _struct(fields: tuple[Skip, ...]) -> Skip:
    def skip(data: bytes, at: int, depth: int) -> int:
        for field in fields:
            at = field(data, at, depth)
        return at

    return skip


def _union(arms: Mapping[int, Skip | None], name: str) -> Skip:
    def skip(data: bytes, at: int, depth: int) -> int:
        arm = arms[read_discriminant(data, at, arms, name)]
        return at + 4 if arm is None else arm(data, at + 4, depth)

    return skip
