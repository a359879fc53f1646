"""The asset register. One for the whole installation: an asset is a fact of the world, not of a tenant."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Identity, Integer, SmallInteger, Table

from custody.db.base import metadata
from custody.db.columns import created_at, text_column

assets = Table(
    "assets",
    metadata,
    Column("number", Integer, Identity(always=True), primary_key=True),
    text_column("id", unique=True),
    text_column("chain"),
    text_column("code"),
    Column("decimals", SmallInteger, nullable=False),
    created_at(),
    CheckConstraint("decimals BETWEEN 0 AND 36", name="decimals_range"),
    CheckConstraint("length(code) BETWEEN 1 AND 12", name="code_length"),
)
