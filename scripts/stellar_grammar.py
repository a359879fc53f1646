"""Write ingestion/stellar/scan/grammar.json from the XDR definitions that stellar_sdk's generated classes carry.

Each of those classes quotes its own definition from Stellar's .x files. Read together they are the grammar of a ledger, at the
protocol that the installed SDK knows: the scanner skips by it, and refuses what it does not allow.
Usage: python -m scripts.stellar_grammar [--check]
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from enum import IntEnum
from pathlib import Path
from typing import Any

from stellar_sdk import xdr
from stellar_sdk.xdr import constants

ROOT = "LedgerCloseMeta"
"""What is read from outside; the grammar holds every type that it reaches."""
TARGET = Path(__file__).parent.parent / "ingestion" / "stellar" / "scan" / "grammar.json"
UNBOUNDED = 0xFFFFFFFF
PRIMITIVES: dict[str, Any] = {
    "int": ["bytes", 4],
    "unsigned int": ["bytes", 4],
    "hyper": ["bytes", 8],
    "unsigned hyper": ["bytes", 8],
    "bool": ["enum", {"FALSE": 0, "TRUE": 1}],
}
_WORD = re.compile(r"[A-Za-z_]\w*|-?0x[0-9a-fA-F]+|-?\d+|[{}()\[\]<>;:,*=]")
_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)


class Reader:
    """Reads one XDR definition. Source: RFC 4506 section 6, as far as Stellar's files use it."""

    def __init__(self, source: str) -> None:
        self._words = _WORD.findall(_COMMENT.sub("", source))
        self._at = 0

    def definition(self) -> tuple[str, Any]:
        """Name and type of a `struct`, `union` or `typedef`; an anonymous one has no name."""
        match self._peek():
            case "typedef":
                self._take()
                name, node = self._declaration()
                return name, node
            case "struct":
                self._take()
                name = "" if self._peek() == "{" else self._take()
                return name, self._struct_body()
            case "union":
                self._take()
                name = "" if self._peek() == "switch" else self._take()
                return name, self._union_body()
            case word:
                raise ValueError(f"no definition begins with {word}")

    def _peek(self, ahead: int = 0) -> str:
        return self._words[self._at + ahead]

    def _take(self, expected: str | None = None) -> str:
        word = self._peek()
        if expected is not None and word != expected:
            raise ValueError(f"expected {expected}, found {word}")
        self._at += 1
        return word

    def _struct_body(self) -> Any:
        self._take("{")
        fields = []
        while self._peek() != "}":
            fields.append(list(self._declaration()))
            self._take(";")
        self._take("}")
        return ["struct", fields]

    def _union_body(self) -> Any:
        self._take("switch")
        self._take("(")
        switch = self._type()
        self._take()
        self._take(")")
        self._take("{")
        arms = []
        while self._peek() != "}":
            labels = []
            while self._peek() in ("case", "default"):
                labels.append("default" if self._take() == "default" else self._take())
                self._take(":")
            if self._peek() == "void":
                self._take()
                arms.append([labels, None])
            else:
                arms.append([labels, list(self._declaration())])
            self._take(";")
        self._take("}")
        return ["union", switch, arms]

    def _type(self) -> Any:
        word = self._peek()
        if word == "struct":
            self._take()
            return self._struct_body()
        if word == "union":
            self._take()
            return self._union_body()
        self._take()
        if word == "unsigned":
            word = f"unsigned {self._take()}"
        return PRIMITIVES.get(word, word)

    def _declaration(self) -> tuple[str, Any]:
        base = self._type()
        if self._peek() == "*":
            self._take()
            return self._take(), ["option", base]
        name = self._take()
        text = base in ("opaque", "string")
        if self._peek() == "[":
            self._take()
            size = _number(self._take())
            self._take("]")
            return name, ["bytes", size] if text else ["array", base, size]
        if self._peek() == "<":
            self._take()
            most = UNBOUNDED if self._peek() == ">" else _number(self._take())
            self._take(">")
            return name, ["opaque", most] if text else ["list", base, most]
        return name, base


def grammar() -> dict[str, Any]:
    """Every type that the root reaches, by name."""
    sources = _sources()
    values = {
        name: value
        for node in sources.values()
        if isinstance(node, list) and node[0] == "enum"
        for name, value in node[1].items()
    }
    found: dict[str, Any] = {}
    wanted = [ROOT]
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = _settled(sources[name], sources, values, wanted)
    return dict(sorted(found.items()))


def text() -> str:
    """The file's content: one type a line."""
    rows = [
        f"{json.dumps(name)}: {json.dumps(node, separators=(',', ':'))}" for name, node in grammar().items()
    ]
    return "{\n" + ",\n".join(rows) + "\n}\n"


def _sources() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _, each in inspect.getmembers(xdr, inspect.isclass):
        if issubclass(each, IntEnum):
            found[each.__name__] = ["enum", {member.name: member.value for member in each}]
            continue
        quoted = (each.__doc__ or "").partition("XDR Source Code::")[2]
        if quoted:
            name, node = Reader(quoted).definition()
            if name:
                found[name] = node
    return found


def _settled(node: Any, sources: dict[str, Any], values: dict[str, int], wanted: list[str]) -> Any:
    """The node with labels and sizes as numbers; names that it refers to are added to `wanted`."""
    if isinstance(node, str):
        wanted.append(node)
        return node
    kind, *rest = node
    match kind:
        case "struct":
            return [kind, [[name, _settled(each, sources, values, wanted)] for name, each in rest[0]]]
        case "option":
            return [kind, _settled(rest[0], sources, values, wanted)]
        case "list" | "array":
            return [kind, _settled(rest[0], sources, values, wanted), rest[1]]
        case "union":
            return [kind, _settled(rest[0], sources, values, wanted), _arms(rest, sources, values, wanted)]
        case _:
            return node


def _arms(rest: list[Any], sources: dict[str, Any], values: dict[str, int], wanted: list[str]) -> list[Any]:
    """Arms as [values, field, type]; a default stands for the values of the enum that no other arm names."""
    switch, arms = rest
    named = [_label(each, values) for labels, _ in arms for each in labels if each != "default"]
    settled = []
    for labels, field in arms:
        numbers = [_label(each, values) for each in labels if each != "default"]
        if "default" in labels:
            numbers += [value for value in sources[switch][1].values() if value not in named]
        name, node = (
            (None, None) if field is None else (field[0], _settled(field[1], sources, values, wanted))
        )
        settled.append([numbers, name, node])
    return settled


def _label(word: str, values: dict[str, int]) -> int:
    return values[word] if word in values else int(word, 0)


def _number(word: str) -> int:
    return int(getattr(constants, word)) if word.isidentifier() else int(word, 0)


def main() -> int:
    """Write the file, or with --check say whether it is what the installed SDK gives."""
    if "--check" in sys.argv[1:]:
        if TARGET.read_text() == text():
            return 0
        print(
            "ingestion/stellar/scan/grammar.json is not what the installed stellar_sdk defines; run: "
            "python -m scripts.stellar_grammar"
        )
        return 1
    TARGET.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
