"""What one query may cost, beyond the depth, aliases and tokens that the library counts.

Two things multiply that those three do not see: fragments that spread fragments, and lists within lists.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    SelectionSetNode,
)
from strawberry.extensions import SchemaExtension

from custody.kernel.errors import InvalidInput

SELECTIONS_MAX = 1000
"""Selections of a document with every fragment written out where it is spread."""
OBJECTS_MAX = 10_000
"""Objects in one answer."""


class QueryTooCostly(InvalidInput):
    """Lists within lists make the answer larger than one answer may be."""

    code = "query_too_costly"
    public = "The answer would hold too many objects: ask for shorter pages or for fewer lists within lists."


class Budget:
    """How many objects one answer may still hold."""

    def __init__(self, objects: int = OBJECTS_MAX) -> None:
        """`objects` is the most that one answer holds."""
        self._left = objects

    def spend(self, objects: int) -> None:
        """Take these from what is left. Raises QueryTooCostly."""
        if objects > self._left:
            self._left = 0
            raise QueryTooCostly(objects_max=OBJECTS_MAX)
        self._left -= objects


class SelectionLimiter(SchemaExtension):
    """Refuses a document whose fragments multiply, before a validation rule follows each of them."""

    def on_parse(self) -> Iterator[None]:
        """After parsing and before validation."""
        yield
        document = self.execution_context.graphql_document
        if document is not None and count_selections(document) > SELECTIONS_MAX:
            refusal = GraphQLError(f"The document selects more than {SELECTIONS_MAX} fields.")
            self.execution_context.pre_execution_errors = [refusal]


def count_selections(document: DocumentNode) -> int:
    """How many selections the document has with its fragments written out. Each fragment is counted once and remembered."""
    fragments = {
        found.name.value: found.selection_set
        for found in document.definitions
        if isinstance(found, FragmentDefinitionNode)
    }
    known: dict[str, int] = {}

    def of_fragment(name: str) -> int:
        if name not in known and name in fragments:
            known[name] = 0  # a fragment within itself is refused by validation
            known[name] = of_set(fragments[name])
        return known.get(name, 0)

    def of_set(selections: SelectionSetNode | None) -> int:
        total = 0
        for each in selections.selections if selections else ():
            match each:
                case FieldNode() | InlineFragmentNode():
                    total += 1 + of_set(each.selection_set)
                case FragmentSpreadNode():
                    total += 1 + of_fragment(each.name.value)
        return total

    return sum(of_set(getattr(found, "selection_set", None)) for found in document.definitions)
