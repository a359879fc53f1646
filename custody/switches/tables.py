"""Stops and what ended them. Both are history: nothing in them changes, and what stands is what nothing has ended."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    Table,
    UniqueConstraint,
)

from custody.db.base import metadata
from custody.db.columns import choice_column, created_at, tenant_column, text_column, uuid_key
from custody.switches.model import Scope

switch_stops = Table(
    "switch_stops",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("sequence", BigInteger, Identity(always=True), nullable=False),
    choice_column("scope", tuple(Scope)),
    text_column("subject"),
    text_column("reason"),
    text_column("actor"),
    created_at(),
    CheckConstraint("subject <> '' AND reason <> ''", name="says_what_and_why"),
    UniqueConstraint("tenant_id", "sequence", name="uq_switch_stops_sequence"),
    Index("ix_switch_stops_place", "tenant_id", "scope", "subject"),
)
"""One row per stop, from the commit on."""

switch_resumes = Table(
    "switch_resumes",
    metadata,
    tenant_column(),
    uuid_key("stop_id"),
    Column("step", SmallInteger, primary_key=True, autoincrement=False),
    Column("follows", SmallInteger, nullable=True),
    text_column("actor"),
    text_column("reason"),
    created_at(),
    CheckConstraint("(step = 1 AND follows IS NULL) OR (step = 2 AND follows = 1)", name="two_steps"),
    UniqueConstraint("tenant_id", "stop_id", "actor", name="uq_switch_resumes_four_eyes"),
    ForeignKeyConstraint(
        ["tenant_id", "stop_id"],
        ["switch_stops.tenant_id", "switch_stops.id"],
        name="fk_switch_resumes_stop",
    ),
    ForeignKeyConstraint(
        ["tenant_id", "stop_id", "follows"],
        ["switch_resumes.tenant_id", "switch_resumes.stop_id", "switch_resumes.step"],
        name="fk_switch_resumes_follows",
    ),
)
"""Step 1 proposes, step 2 confirms and ends the stop. One person cannot be both: an actor stands here once per stop."""
