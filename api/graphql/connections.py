"""Relay connections: pages forward by opaque cursor, at most a hundred rows. Source: GraphQL Cursor Connections Specification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Annotated, Generic, TypeVar
from uuid import UUID

import strawberry

from api.filters import NEWEST_FIRST, OLDEST_FIRST, walk_of
from api.paging import PAGE_DEFAULT, PAGE_MAX, page_of, show_cursor
from custody.kernel.errors import InvalidInput

Node = TypeVar("Node")
Row = TypeVar("Row")

First = Annotated[int, strawberry.argument(description="How many rows at most: 1 to 100.")]
After = Annotated[str | None, strawberry.argument(description="`endCursor` of the page before.")]


@strawberry.enum
class Order(Enum):
    """In which order a list is walked."""

    OLDEST_FIRST = OLDEST_FIRST
    NEWEST_FIRST = NEWEST_FIRST

    def of(self, name: str) -> str:
        """The name of a list that is walked so: a cursor of one order is none of the other."""
        return walk_of(name, self.value)


class BadPageSize(InvalidInput):
    """`first` is outside 1 to 100."""

    code = "bad_page_size"
    public = "`first` must be between 1 and 100."


class UnknownNodeKind(InvalidInput):
    """The id's prefix names no kind of object that `node` finds."""

    code = "malformed_id"
    public = "The id is not of the expected form."


@strawberry.type
class PageInfo:
    """Where a page stands in its list. Lists are walked forward only."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Edge(Generic[Node]):
    """One row with its place in the list."""

    node: Node
    cursor: str


class _Placed(Edge[Node]):
    """An edge whose cursor is made when it is asked for: to sign one takes as long as to show the row."""

    def __init__(self, node: Node, of: str, key: UUID | int) -> None:
        self.node = node
        self._of = of
        self._key = key

    @property
    def cursor(self) -> str:  # type: ignore[override]  # only ever read
        return show_cursor(self._of, self._key)


@strawberry.type
class Connection(Generic[Node]):
    """One page of a list."""

    edges: list[Edge[Node]]
    page_info: PageInfo


def checked(first: int) -> int:
    """The page size. Raises BadPageSize."""
    if not 1 <= first <= PAGE_MAX:
        raise BadPageSize(first=first)
    return first


def connect(
    of: str,
    found: Sequence[Row],
    first: int,
    after: str | None,
    *,
    key: Callable[[Row], UUID | int],
    show: Callable[[Row], Node],
) -> Connection[Node]:
    """The page out of up to `first + 1` rows."""
    page = page_of(found, first)
    edges: list[Edge[Node]] = [_Placed(show(row), of, key(row)) for row in page.rows]
    return Connection(
        edges=edges,
        page_info=PageInfo(
            has_next_page=page.more,
            has_previous_page=after is not None,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        ),
    )


FIRST_DEFAULT = PAGE_DEFAULT
