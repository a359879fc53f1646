"""Events remember the correlation id of what caused them, so that a job's log lines can be found by the request's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("outbox", sa.Column("trace_id", sa.Text, nullable=True))


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
