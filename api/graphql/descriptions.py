"""Puts docstrings into the schema, where the people who write queries read them: one text, in the code and in the SDL."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

from strawberry.types import get_object_definition


def describe(*modules: ModuleType) -> None:
    """Give every type of these modules, and every field with a resolver, its docstring as description."""
    for module in modules:
        for _, found in inspect.getmembers(module, inspect.isclass):
            definition = get_object_definition(found)
            if found.__module__ == module.__name__ and definition is not None:
                definition.description = inspect.getdoc(found)
                for field in definition.fields:
                    field.description = field.description or _resolver_doc(field)


def _resolver_doc(field: Any) -> str | None:
    """The docstring of the function behind a field; plain fields have none."""
    resolver = field.base_resolver
    return None if resolver is None else inspect.getdoc(resolver.wrapped_func)
