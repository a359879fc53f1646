"""The shape of a Stellar ledger as data: what `grammar.json` says, read once. Pure.

The file is written by `scripts/stellar_grammar.py` from stellar_sdk's own definitions and never by hand.
Source: RFC 4506 (XDR); Stellar-ledger.x and what it includes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class Fixed:
    """So many bytes, whatever they are: numbers and hashes."""

    size: int


@dataclass(frozen=True, slots=True)
class Opaque:
    """A length, then as many bytes, padded to a multiple of four."""

    most: int
    """Longest allowed, in bytes."""


@dataclass(frozen=True, slots=True)
class Enum:
    """Four bytes that must be one of these numbers."""

    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """The same type so many times."""

    each: Node
    count: int


@dataclass(frozen=True, slots=True)
class Many:
    """A count, then the type as often."""

    each: Node
    most: int
    """Highest count allowed."""


@dataclass(frozen=True, slots=True)
class Option:
    """Zero, or one and the type."""

    each: Node


@dataclass(frozen=True, slots=True)
class Struct:
    """Types one after another."""

    fields: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Union:
    """A discriminant, then what it stands for: None for nothing."""

    arms: tuple[tuple[int, Node | None], ...]


@dataclass(frozen=True, slots=True)
class Ref:
    """The type of this name."""

    name: str


Node = Fixed | Opaque | Enum | Times | Many | Option | Struct | Union | Ref


def load_grammar() -> dict[str, Node]:
    """Every type that a LedgerCloseMeta reaches, by its name in Stellar's .x files."""
    text = resources.files(__package__).joinpath("grammar.json").read_text(encoding="utf-8")
    return {name: _node(row) for name, row in json.loads(text).items()}


def _node(row: Any) -> Node:
    if isinstance(row, str):
        return Ref(row)
    node: Node
    kind, *rest = row
    match kind:
        case "bytes":
            node = Fixed(rest[0])
        case "opaque":
            node = Opaque(rest[0])
        case "enum":
            node = Enum(tuple(rest[0].values()))
        case "array":
            node = Times(_node(rest[0]), rest[1])
        case "list":
            node = Many(_node(rest[0]), rest[1])
        case "option":
            node = Option(_node(rest[0]))
        case "struct":
            node = Struct(tuple(_node(each) for _, each in rest[0]))
        case "union":
            node = Union(tuple(_arms(rest[1])))
        case _:
            raise ValueError(f"grammar.json holds a type of unknown kind {kind}")
    return node


def _arms(rows: Any) -> Iterator[tuple[int, Node | None]]:
    for values, _, node in rows:
        for value in values:
            yield value, None if node is None else _node(node)


def referred(grammar: Mapping[str, Node], name: str) -> Node:
    """What a name stands for in the end, through names of names."""
    node = grammar[name]
    while isinstance(node, Ref):
        node = grammar[node.name]
    return node
