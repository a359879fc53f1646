"""Completes whatever is only attributes in one go: a page of fifty rows has five hundred fields that nobody is asked about.

What a part of an answer consists of is found out once per request: where every field below a value reads an attribute (no
resolver, no argument, no question about permission, no abstract type), the value is read by nested functions instead of the
library's general procedure. As soon as anything is not as expected, the general procedure does that part anew, so that errors
are told as ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from graphql import (
    GraphQLError,
    GraphQLLeafType,
    GraphQLObjectType,
    GraphQLOutputType,
    Undefined,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_object_type,
)
from graphql.execution.collect_fields import FieldDetailsList
from graphql.execution.incremental.incremental_executor import IncrementalExecutor

READS = "reads"
"""A resolver that does nothing but read an attribute names it by this attribute of its own."""

Read = Callable[[Any], Any]
ShortWays = dict[tuple[int, ...], Read | None]
"""By the identities of a type of the schema and of nodes of one document, which both stay for as long as this does."""


class NotAsExpected(Exception):
    """The general procedure knows what to do about this value."""


class Executor(IncrementalExecutor):
    """The library's, with a short way."""

    def __init__(self, *args: Any, short_ways: ShortWays | None = None, **options: Any) -> None:
        """`short_ways`: what earlier requests with the same document found out."""
        super().__init__(*args, **options)
        self._known: ShortWays = {} if short_ways is None else short_ways

    def complete_value(
        self,
        return_type: Any,
        field_details_list: Any,
        info: Any,
        path: Any,
        result: Any,
        position_context: Any,
    ) -> Any:
        """As the library's."""
        key = (id(return_type), *[id(each.node) for each in field_details_list])
        try:
            complete = self._known[key]
        except KeyError:
            complete = self._known[key] = self._short_way(return_type, field_details_list)
        if complete is not None and not isinstance(result, Exception):
            # Below, the same is done by the procedure that says what is wrong.
            with contextlib.suppress(GraphQLError, TypeError, ValueError, AttributeError, LookupError):
                return complete(result)
        return super().complete_value(return_type, field_details_list, info, path, result, position_context)

    def _short_way(self, kind: GraphQLOutputType, details: FieldDetailsList) -> Read | None:
        """How to complete a value of this type, if there is no more to it than reading."""
        if is_non_null_type(kind):
            inner = self._short_way(kind.of_type, details)
            return None if inner is None else _not_null(inner)
        if is_list_type(kind):
            inner = self._short_way(kind.of_type, details)
            return None if inner is None else _each(inner)
        if is_leaf_type(kind):
            return _leaf(kind)
        if is_object_type(kind):
            return self._short_way_of_object(kind, details)
        return None

    def _short_way_of_object(self, kind: GraphQLObjectType, details: FieldDetailsList) -> Read | None:
        wanted, deferred, _ = self.collect_subfields(kind, details)
        if deferred:
            return None
        fields: list[tuple[str, str, Read]] = []
        for name, own in wanted.items():
            node = own[0].node
            if node.name.value == "__typename":
                fields.append((name, "__class__", _always(kind.name)))
                continue
            field = self.schema.get_field(kind, node.name.value)
            read = getattr(field.resolve, READS, None) if field else None
            if field is None or read is None or field.args or node.arguments:
                return None
            complete = self._short_way(field.type, own)
            if complete is None:
                return None
            fields.append((name, read, complete))
        return _object(fields, kind.is_type_of)


def _not_null(inner: Read) -> Read:
    def complete(value: Any) -> Any:
        found = inner(value)
        if found is None:
            raise NotAsExpected
        return found

    return complete


def _each(inner: Read) -> Read:
    def complete(value: Any) -> Any:
        if value is None:
            return None
        if type(value) is not list:
            raise NotAsExpected
        return [inner(each) for each in value]

    return complete


def _leaf(kind: GraphQLLeafType) -> Read:
    coerce = kind.coerce_output_value

    def complete(value: Any) -> Any:
        if value is None:
            return None
        found = coerce(value)
        if found is None or found is Undefined:
            raise NotAsExpected
        return found

    return complete


def _always(name: str) -> Read:
    return lambda _: name


def _object(fields: list[tuple[str, str, Read]], is_type_of: Callable[[Any, Any], Any] | None) -> Read:
    def complete(value: Any) -> Any:
        if value is None:
            return None
        if is_type_of is not None and is_type_of(value, None) is not True:
            raise NotAsExpected
        return {name: inner(getattr(value, read)) for name, read, inner in fields}

    return complete
