"""From what resolvers give to what an answer shows, one function for each type that a document asks for. Private to the plan.

Source: GraphQL specification (September 2025), section 6.4.3, value completion, and 6.4.4, how errors spread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from types import NoneType
from typing import Any, Protocol

from graphql import (
    FieldNode,
    GraphQLAbstractType,
    GraphQLError,
    GraphQLObjectType,
    GraphQLResolveInfo,
    Undefined,
    default_type_resolver,
    located_error,
)
from graphql.execution.values import VariableValues
from graphql.pyutils import Path, is_iterable

from api.graphql.reading import NotAsExpected, Read

Info = GraphQLResolveInfo[Any]
"""What a resolver is told beside its arguments."""
Complete = Callable[["Run", Any, Info, Path], Any]
"""Gives the value as it is shown, or something to await. Raises what is wrong with it."""


class Run:
    """One execution of a plan."""

    __slots__ = ("context", "errors", "root", "variables")

    def __init__(self, context: object, variables: VariableValues, root: object) -> None:
        """Nothing has gone wrong yet."""
        self.context = context
        self.variables = variables
        self.root = root
        self.errors: list[GraphQLError] = []

    def fail(self, error: Exception, nodes: list[FieldNode], path: Path, *, nullable: bool) -> None:
        """Tell the error here, or leave it to the value above. Raises GraphQLError."""
        found = located_error(error, nodes, path.as_list())
        if not nullable:
            raise found
        self.errors.append(found)


class Select(Protocol):
    """What is asked of one object."""

    def __call__(self, run: Run, source: Any, path: Path | None, /) -> Any:
        """The object as it is shown, or something to await."""
        ...


def is_awaited(value: Any) -> bool:
    """Whether what is to be shown is not there yet. What is there is of a few plain types."""
    return value.__class__ not in _SHOWN and isawaitable(value)


_SHOWN = frozenset({str, int, bool, float, dict, list, NoneType})


async def all_of(awaited: list[Awaitable[Any]], failed: Exception | None = None) -> list[Any]:
    """All of them, at the same time. Raises `failed`, or the first one's error, once every one has come to its end: none is cut
    off while it speaks to the database."""
    if len(awaited) == 1 and failed is None:
        return [await awaited[0]]
    ended = await asyncio.gather(*awaited, return_exceptions=True)
    for each in (failed, *ended):
        if isinstance(each, BaseException):
            raise each
    return ended


def shortened(short: Read, otherwise: Complete) -> Complete:
    """Read in one go where that is possible."""

    def complete(run: Run, value: Any, info: Info, path: Path) -> Any:
        try:
            return short(value)
        except Exception:  # noqa: BLE001 - what is wrong is found out the other way
            return otherwise(run, value, info, path)

    return complete


def _given(value: Any) -> bool:
    """Whether there is a value at all. A resolver may also give back the error that it met, which is then raised."""
    if isinstance(value, Exception):
        raise value
    return value is not None and value is not Undefined


def never_null(inner: Complete) -> Complete:
    """A value that may not be null."""

    def complete(run: Run, value: Any, info: Info, path: Path) -> Any:
        if not _given(value):
            raise TypeError(
                f"Cannot return null for non-nullable field {info.parent_type}.{info.field_name}."
            )
        return inner(run, value, info, path)

    return complete


def leaf(read: Read, name: str) -> Complete:
    """A scalar or a word of an enumeration."""

    def complete(_run: Run, value: Any, _info: Info, _path: Path) -> Any:
        if not _given(value):
            return None
        try:
            return read(value)
        except NotAsExpected:
            raise TypeError(f"Expected a value of type {name}.") from None

    return complete


class Every:
    """A list."""

    def __init__(self, inner: Complete, nodes: list[FieldNode], *, nullable: bool) -> None:
        """How an item is completed, and whether it may be null."""
        self._inner = inner
        self._nodes = nodes
        self._nullable = nullable

    def __call__(self, run: Run, value: Any, info: Info, path: Path) -> Any:
        """As Complete."""
        if not _given(value):
            return None
        if not is_iterable(value):
            at = f"{info.parent_type}.{info.field_name}"
            raise GraphQLError(f"Expected Iterable, but did not find one for field '{at}'.")
        found: list[Any] = []
        failed: GraphQLError | None = None
        try:
            for place, each in enumerate(value):
                found.append(self._item(run, each, info, Path(path, place, None)))
        except GraphQLError as error:
            failed = error
        if any(map(is_awaited, found)):
            return self._filled(found, failed)
        if failed is not None:
            raise failed
        return found

    def _item(self, run: Run, value: Any, info: Info, path: Path) -> Any:
        try:
            shown = self._inner(run, value, info, path)
        except Exception as error:  # noqa: BLE001 - whatever completing it raises is this item's error
            return run.fail(error, self._nodes, path, nullable=self._nullable)
        return self._settled(run, shown, path) if is_awaited(shown) else shown

    async def _settled(self, run: Run, shown: Awaitable[Any], path: Path) -> Any:
        try:
            return await shown
        except Exception as error:  # noqa: BLE001 - as above
            return run.fail(error, self._nodes, path, nullable=self._nullable)

    async def _filled(self, found: list[Any], failed: Exception | None) -> list[Any]:
        awaited = [place for place, shown in enumerate(found) if is_awaited(shown)]
        values = await all_of([found[place] for place in awaited], failed)
        for place, value in zip(awaited, values, strict=True):
            found[place] = value
        return found


def whole(kind: GraphQLObjectType, select: Select, nodes: list[FieldNode]) -> Complete:
    """An object."""
    is_type_of = kind.is_type_of

    def complete(run: Run, value: Any, info: Info, path: Path) -> Any:
        if not _given(value):
            return None
        if is_type_of is not None and not is_type_of(value, info):
            raise GraphQLError(f"Expected value of type '{kind.name}'.", nodes)
        return select(run, value, path)

    return complete


def one_of(kind: GraphQLAbstractType, ways: Mapping[str, Complete]) -> Complete:
    """An object of one of several types, by their names."""
    resolve_type = kind.resolve_type or default_type_resolver

    def complete(run: Run, value: Any, info: Info, path: Path) -> Any:
        if not _given(value):
            return None
        found = resolve_type(value, info, kind)
        way = ways.get(found) if isinstance(found, str) else None
        if way is None:
            raise GraphQLError(f"Abstract type '{kind.name}' was resolved to no type of its own.")
        return way(run, value, info, path)

    return complete
