"""Lists of deposits and of payouts by state, in order of arrival."""

from __future__ import annotations

from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("deposits", "payouts"):
        op.create_index(f"ix_{table}_state", table, ["tenant_id", "state", "sequence"])
