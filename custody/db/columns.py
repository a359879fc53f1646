"""Column kinds that every table shares, so that money, time, ids and states have one representation each."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, DateTime, Integer, Numeric, Text, Uuid, func
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from custody.kernel.transitions import TransitionTable


class Atomic(TypeDecorator[int]):
    """An integer of atomic units in NUMERIC(78,0), which holds any uint256. Python sees int, never Decimal."""

    impl = Numeric(78, 0)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Decimal | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """int to the driver's Decimal, exactly."""
        return None if value is None else Decimal(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:  # noqa: ARG002 (SQLAlchemy's signature)
        """The driver's Decimal to int, exactly."""
        return None if value is None else int(value)


def tenant_column() -> Column[int]:
    """`tenant_id`: first in the primary key of every tenant's table, compared by row-level security."""
    return Column("tenant_id", Integer, primary_key=True, autoincrement=False)


def uuid_key(name: str = "id") -> Column[UUID]:
    """A UUID in the primary key."""
    return Column(name, Uuid(as_uuid=True), primary_key=True)


def uuid_column(name: str, **options: Any) -> Column[UUID]:
    """A UUID that points at another row. Not null unless told."""
    return Column(name, Uuid(as_uuid=True), **{"nullable": False, **options})


def amount_column(name: str, **options: Any) -> Column[int]:
    """Atomic units. Not null unless told."""
    return Column(name, Atomic(), **{"nullable": False, **options})


def text_column(name: str, **options: Any) -> Column[str]:
    """Text. Not null unless told."""
    return Column(name, Text, **{"nullable": False, **options})


def utc_column(name: str, **options: Any) -> Column[datetime]:
    """A moment, stored as timestamptz. Not null unless told."""
    return Column(name, DateTime(timezone=True), **{"nullable": False, **options})


def created_at() -> Column[datetime]:
    """When the row was written, by the database's clock."""
    return utc_column("created_at", server_default=func.clock_timestamp())


def state_column(name: str, table: TransitionTable) -> Column[str]:
    """A state of this machine; the database refuses any other word."""
    words = ", ".join(f"'{state}'" for state in table.states)
    return Column(name, Text, CheckConstraint(f"{name} IN ({words})", name=f"{name}_known"), nullable=False)


def choice_column(name: str, choices: tuple[str, ...], **options: Any) -> Column[str]:
    """One of a few words; the database refuses any other."""
    words = ", ".join(f"'{choice}'" for choice in choices)
    return Column(
        name,
        Text,
        CheckConstraint(f"{name} IN ({words})", name=f"{name}_known"),
        **{"nullable": False, **options},
    )
