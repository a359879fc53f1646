"""Whether a statement names the tenant of every tenant's table that it touches, judged from its text.

No SQL parser: a statement is cut at parentheses that hold a query of their own, and each such query must compare the tenant of
each table that it reads or changes, or carry it in the columns that it inserts. What cannot be told is reported, not passed.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_TEXT = re.compile(r"'(?:[^']|'')*'")
_QUERY = re.compile(r"\s*(?:select|with|insert|update|delete|values)\b")
_SET_OPERATION = re.compile(r"\b(?:union(?:\s+all)?|intersect|except)\b")
_INSERT = re.compile(r"\binsert\s+into\s+(?:public\.)?(\w+)(?:\s+as\s+\w+)?\s*(?:\(([^()]*)\))?")
_NO_ALIAS = frozenset(
    {"as", "on", "set", "where", "join", "left", "right", "full", "inner", "cross", "natural", "order", "group", "having",
     "limit", "offset", "for", "union", "intersect", "except", "returning", "using", "values", "select", "default", "window",
     "fetch", "then", "loop"}
)  # fmt: skip
"""Words that may follow a table's name and are not another name for it."""


def find_untenanted(statement: str, tables: Collection[str], *, output: bool = False) -> list[str]:
    """The tables of tenants that the statement reads, changes or fills without naming a tenant.

    With `output` it is enough that the tenant is among the columns: a view is filtered by whoever asks it.
    """
    found = []
    for scope in _scopes(_plain(statement)):
        for inserted, columns in _INSERT.findall(scope):
            if inserted in tables and "tenant_id" not in re.split(r"\W+", columns):
                found.append(inserted)
        named = _named(scope, tables)
        found += [table for table, alias in named if not _filtered(scope, alias, len(named), output=output)]
    return found


def _plain(statement: str) -> str:
    """Lower case, without comments, texts and quotes of names."""
    bare = _TEXT.sub("''", _COMMENT.sub(" ", statement))
    return bare.replace('"', "").lower()


def _scopes(text: str) -> list[str]:
    """Every query by itself, the queries within it taken out. Statements of a function are queries beside each other."""
    found: list[str] = []
    outer = _take_out(text, found)
    return [
        part
        for scope in [outer, *found]
        for piece in scope.split(";")
        for part in _SET_OPERATION.split(piece)
    ]


def _take_out(text: str, found: list[str]) -> str:
    """The text with each parenthesised query replaced; those are added to `found`."""
    stack: list[list[str]] = [[]]
    for letter in text:
        if letter == "(":
            stack.append([])
        elif letter == ")" and len(stack) > 1:
            inner = "".join(stack.pop())
            if _QUERY.match(inner):
                found.append(inner)
                stack[-1].append("(query)")
            else:
                stack[-1].append(f"({inner})")
        else:
            stack[-1].append(letter)
    return "(".join("".join(part) for part in stack)


def _named(scope: str, tables: Collection[str]) -> list[tuple[str, str]]:
    """Table and alias of each table of a tenant that the query reads or changes."""
    introduced = re.compile(
        r"(?:\b(?:from|join|update|using)|,)[\s(]+(?:only\s+)?(?:lateral\s+)?(?:public\.)?(\w+)\b(?!\s*\()(?:\s+as)?(?:\s+(\w+))?"
    )
    places = [match for match in introduced.finditer(scope) if match[1] in tables]
    return [(match[1], match[2] if match[2] and match[2] not in _NO_ALIAS else match[1]) for match in places]


def _filtered(scope: str, alias: str, tables: int, *, output: bool) -> bool:
    column = rf"\b{alias}\.tenant_id\b"
    bare = r"(?<![.\w])tenant_id\b"
    compared = (rf"{column}\s*(?:=|in\b)", rf"=\s*\(*{column}")
    alone = (rf"{bare}\s*=", rf"=\s*\(*{bare}") if tables == 1 else ()
    shown = (column, *((bare,) if tables == 1 else ())) if output else ()
    return any(re.search(pattern, scope) for pattern in (*compared, *alone, *shown))
