"""Runs of reconciliation and what they found. History: nothing in them changes."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, Integer, Table
from sqlalchemy.dialects.postgresql import JSONB

from custody.db.base import metadata
from custody.db.columns import (
    amount_column,
    choice_column,
    created_at,
    tenant_column,
    text_column,
    utc_column,
    uuid_column,
    uuid_key,
)
from custody.recon.model import BreakKind

recon_runs = Table(
    "recon_runs",
    metadata,
    tenant_column(),
    uuid_key(),
    utc_column("started_at"),
    utc_column("finished_at"),
    Column("breaks", Integer, nullable=False),
    # The rows and the trial balance as they were compared, in the form that `custody recon --json` prints.
    Column("report", JSONB, nullable=False),
    created_at(),
    CheckConstraint("breaks >= 0", name="breaks_not_negative"),
    CheckConstraint("finished_at >= started_at", name="finished_after_start"),
    Index("ix_recon_runs_created_at", "tenant_id", "created_at"),
)

recon_breaks = Table(
    "recon_breaks",
    metadata,
    tenant_column(),
    uuid_key("run_id"),
    Column("number", Integer, primary_key=True, autoincrement=False),
    choice_column("kind", tuple(kind.value for kind in BreakKind)),
    text_column("owner"),
    uuid_column("owner_id", nullable=True),
    text_column("asset"),
    amount_column("books"),
    amount_column("outside", nullable=True),
    text_column("detail"),
    created_at(),
    CheckConstraint("number > 0", name="number_positive"),
    CheckConstraint("(outside IS NULL) = (kind = 'not_comparable')", name="outside_when_comparable"),
)
