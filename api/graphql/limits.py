"""What one query may cost: how deep, how wide, how long, and how many objects its answer may hold.

All of it is counted before validation, in one walk that remembers each fragment, because validation itself follows fragments that
spread fragments; only the objects are counted as they are made, since lists within lists are known no sooner.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    SelectionSetNode,
)

from custody.kernel.errors import InvalidInput

DEPTH_MAX = 10
"""Objects within objects."""
ALIASES_MAX = 15
"""Fields under another name, fragments written out."""
TOKENS_MAX = 1000
"""Words and signs of a document."""
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


@dataclass(frozen=True, slots=True)
class Size:
    """What a document, or a part of it, asks for with its fragments written out."""

    depth: int = 0
    aliases: int = 0
    selections: int = 0

    def beside(self, other: Size) -> Size:
        """Both, next to each other."""
        return Size(
            max(self.depth, other.depth), self.aliases + other.aliases, self.selections + other.selections
        )


def refusal(document: DocumentNode) -> GraphQLError | None:
    """Why the document is not even looked at, or None. `extensions.code` says which limit."""
    size = measure(document)
    for found, most, code, sentence in (
        (size.selections, SELECTIONS_MAX, "too_many_fields", "The document selects more than {} fields."),
        (size.aliases, ALIASES_MAX, "too_many_aliases", "The document has more than {} aliases."),
        (size.depth, DEPTH_MAX, "query_too_deep", "The document nests objects deeper than {}."),
    ):
        if found > most:
            return GraphQLError(sentence.format(most), extensions={"code": code})
    return None


def measure(document: DocumentNode) -> Size:
    """How much the document asks for. Each fragment is measured once and remembered."""
    fragments = {
        found.name.value: found.selection_set
        for found in document.definitions
        if isinstance(found, FragmentDefinitionNode)
    }
    known: dict[str, Size] = {}

    def of_fragment(name: str) -> Size:
        if name not in known and name in fragments:
            known[name] = Size()  # a fragment within itself is refused by validation
            known[name] = of_set(fragments[name])
        return known.get(name, Size())

    def of_set(selections: SelectionSetNode | None) -> Size:
        total = Size()
        for each in selections.selections if selections else ():
            match each:
                case FieldNode():
                    inner = of_set(each.selection_set)
                    # A client's tools ask for the schema deeply; its own rule bounds that.
                    deep = each.selection_set is not None and not each.name.value.startswith("__")
                    aliased = int(each.alias is not None)
                    total = total.beside(
                        Size(inner.depth + 1 if deep else 0, inner.aliases + aliased, inner.selections + 1)
                    )
                case InlineFragmentNode():
                    inner = of_set(each.selection_set)
                    total = total.beside(Size(inner.depth, inner.aliases, inner.selections + 1))
                case FragmentSpreadNode():
                    total = total.beside(of_fragment(each.name.value))
        return total

    whole = Size()
    for found in document.definitions:
        whole = whole.beside(of_set(getattr(found, "selection_set", None)))
    return whole
