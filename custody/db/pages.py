"""Pages of a table that numbers its rows in a column `sequence`: from one row on, in the order of arrival or the reverse.

An index of (tenant, …, sequence) gives the order, where every column before `sequence` is asked for by one value.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Column, Select, Table, select

from custody.db.session import ReadSession

_Q = TypeVar("_Q", bound=Select[Any])


def in_sequence(
    query: _Q,
    session: ReadSession,
    table: Table,
    *,
    after: UUID | None,
    limit: int,
    newest_first: bool = False,
) -> _Q:
    """The rows that follow the row with the id `after`, or the first ones; none where no such row is to be seen."""
    place = table.c.sequence
    if after is not None:
        named = (
            select(place).where(table.c.tenant_id == session.tenant, table.c.id == after).scalar_subquery()
        )
        query = query.where(place < named if newest_first else place > named)
    return query.order_by(place.desc() if newest_first else place).limit(limit)


def of_choices(query: _Q, column: Column[Any], chosen: Collection[str]) -> _Q:
    """Only rows with one of these values, or all. A single value is asked for as such, so that an index also gives the order."""
    if not chosen:
        return query
    if len(chosen) == 1:
        (only,) = chosen
        return query.where(column == only)
    return query.where(column.in_(list(chosen)))
