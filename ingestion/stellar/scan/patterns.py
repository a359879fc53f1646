"""Byte patterns of XDR types, so that the regular expression engine skips in C what has no surprises. Pure.

A pattern matches some of its type's encodings and nothing else: long texts, long lists and recursion are left out, and whoever
uses it walks those by the grammar. Since no XDR encoding is the beginning of another, a match always ends where the value ends;
groups are atomic because going back could never help, which keeps the cost of any input linear.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache

from ingestion.stellar.scan.grammar import Enum, Fixed, Many, Node, Opaque, Option, Ref, Struct, Times, Union

TEXT_MAX = 72
"""Longest text or byte string that a pattern knows: an asset's name (69 bytes) and a signature (64) fit."""
ITEMS_MAX = (4, 3)
"""Most items of a list that a pattern knows: of a plain one, and of one within a recursive type."""
LIST_BYTES = 60_000
"""How long the pattern of a list may become; where items are long, fewer of them are known."""
NESTED_MAX = 2
"""How often a recursive type may lie within itself in a pattern, counted with the outermost."""


class Patterns:
    """Patterns for the types of one grammar."""

    def __init__(self, grammar: Mapping[str, Node], without: Collection[str] = ()) -> None:
        """Types named in `without` get no pattern, nor do those that cannot be without them."""
        self._grammar = grammar
        self._without = without
        self.of = lru_cache(maxsize=None)(self._of)

    def compiled(self, name: str) -> re.Pattern[bytes]:
        """The pattern of the named type, ready to match. Raises ValueError for a type that has none."""
        return compile_pattern(self.of(name))

    def _of(self, name: str) -> bytes:
        found = self._pattern(Ref(name), ())
        if found is None:
            raise ValueError(f"{name} has no pattern")
        return found

    def _pattern(self, node: Node, within: tuple[str, ...]) -> bytes | None:
        found: bytes | None
        match node:
            case Fixed(size):
                found = b".{%d}" % size
            case Opaque(most):
                found = _text(min(most, TEXT_MAX))
            case Enum(values):
                found = any_of(values)
            case Times(each, count):
                inner = self._pattern(each, within)
                found = None if inner is None else b"(?:%s){%d}" % (inner, count)
            case Many(each, most):
                found = self._list(each, most, within)
            case Option(each):
                inner = self._pattern(each, within)
                present = [] if inner is None else [any_of((1,)) + inner]
                found = either([any_of((0,)), *present])
            case Struct(fields):
                found = self._struct(fields, within)
            case Union(arms):
                found = self._union(arms, within)
            case Ref(name):
                full = name in self._without or within.count(name) >= NESTED_MAX
                found = None if full else self._pattern(self._grammar[name], (*within, name))
        return found

    def _list(self, each: Node, most: int, within: tuple[str, ...]) -> bytes:
        found = self._pattern(each, within)
        known = [any_of((0,))]
        if found is not None:
            nested = len(set(within)) < len(within)
            longest = min(most, ITEMS_MAX[nested], LIST_BYTES // len(found))
            known += [any_of((count,)) + b"(?:%s){%d}" % (found, count) for count in range(1, longest + 1)]
        return either(known)

    def _struct(self, fields: tuple[Node, ...], within: tuple[str, ...]) -> bytes | None:
        parts = []
        for field in fields:
            found = self._pattern(field, within)
            if found is None:
                return None
            parts.append(found)
        return _merged(b"".join(parts))

    def _union(self, arms: tuple[tuple[int, Node | None], ...], within: tuple[str, ...]) -> bytes | None:
        values: dict[bytes, list[int]] = {}
        for value, node in arms:
            found = b"" if node is None else self._pattern(node, within)
            if found is not None:
                values.setdefault(found, []).append(value)
        return either([any_of(heads) + tail for tail, heads in values.items()]) if values else None


def compile_pattern(pattern: bytes) -> re.Pattern[bytes]:
    """Ready to match; a dot is any byte."""
    return re.compile(pattern, re.DOTALL)


def any_of(values: Iterable[int]) -> bytes:
    """One of these numbers as four bytes."""
    last: dict[bytes, list[int]] = {}
    for value in values:
        encoded = value.to_bytes(4, "big", signed=value < 0)
        last.setdefault(encoded[:3], []).append(encoded[3])
    return either(
        [
            re.escape(head)
            + (re.escape(bytes(ends)) if len(ends) == 1 else b"[%s]" % b"".join(map(_byte, ends)))
            for head, ends in last.items()
        ]
    )


def either(options: list[bytes]) -> bytes:
    """One of these patterns, the first that fits, for good."""
    return options[0] if len(options) == 1 else b"(?>" + b"|".join(options) + b")"


def symbol(text: bytes, *, group: bool = False) -> bytes:
    """What follows SCV_SYMBOL when it is this one."""
    return any_of((len(text),)) + (b"(%s)" % text if group else text) + b".{%d}" % (-len(text) % 4)


def _byte(value: int) -> bytes:
    return b"\\x%02x" % value


def _text(most: int) -> bytes:
    """A length and so many bytes with their padding. What the padding holds is not asked, as the SDK does not."""
    known = [b"\0"]
    known += [b"[%s-%s].{%d}" % (_byte(end - 3), _byte(min(end, most)), end) for end in range(4, most + 4, 4)]
    return b"\0\0\0" + either(known)


def _merged(pattern: bytes) -> bytes:
    """Neighbouring runs of any bytes as one run."""
    joined = re.compile(rb"\.\{(\d+)\}\.\{(\d+)\}")
    while (found := joined.search(pattern)) is not None:
        run = b".{%d}" % (int(found[1]) + int(found[2]))
        pattern = pattern[: found.start()] + run + pattern[found.end() :]
    return pattern
