"""Reads whatever is only attributes in one go: a page of fifty rows has five hundred fields that nobody is asked about.

Where every field below a value reads an attribute (no resolver, no argument, no question about permission, no abstract type), the
value is read by nested functions. They know no errors: whatever they raise says that something is not as expected, and the plan
does that part field by field, so that errors are told as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphql import GraphQLLeafType, Undefined

READS = "reads"
"""A resolver that does nothing but read an attribute names it by this attribute of its own."""

Read = Callable[[Any], Any]


class NotAsExpected(Exception):
    """The plan knows what to do about this value."""


def not_null(inner: Read) -> Read:
    """A value that may not be null."""

    def read(value: Any) -> Any:
        found = inner(value)
        if found is None:
            raise NotAsExpected
        return found

    return read


def each(inner: Read) -> Read:
    """A list."""

    def read(value: Any) -> Any:
        if value is None:
            return None
        if type(value) is not list:
            raise NotAsExpected
        return [inner(item) for item in value]

    return read


def leaf(kind: GraphQLLeafType) -> Read:
    """A scalar or a word of an enumeration."""
    coerce = kind.coerce_output_value

    def read(value: Any) -> Any:
        if value is None:
            return None
        found = coerce(value)
        if found is None or found is Undefined:
            raise NotAsExpected
        return found

    return read


def whole(fields: list[tuple[str, str, Read]], is_type_of: Callable[[Any, Any], Any] | None) -> Read:
    """An object: for each field its name in the answer, the attribute, and how that is read."""

    def read(value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, Exception) or value is Undefined:
            raise NotAsExpected  # `__typename` could be read of it all the same
        if is_type_of is not None and is_type_of(value, None) is not True:
            raise NotAsExpected
        return {name: inner(getattr(value, attribute)) for name, attribute, inner in fields}

    return read


def typename(name: str) -> tuple[str, Read]:
    """`__typename`, read of whatever object."""
    return "__class__", lambda _: name
