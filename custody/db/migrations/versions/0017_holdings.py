"""What our accounts held on chain, block by block, and how the books compared with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

HISTORY = ("holding_states", "account_states", "account_data", "holding_comparisons")


def upgrade() -> None:
    holding_states()
    account_states()
    account_data()
    holdings()
    comparisons()
    breaks()
    tenant_isolation(*HISTORY, "holdings", "holding_breaks")
    append_only(*HISTORY)
    grant("SELECT, INSERT", *HISTORY)
    # The opening is taken when the asset is listed; what is booked later of blocks before that is taken out of it again.
    grant("SELECT, INSERT, UPDATE (opening, opening_height)", "holdings")
    grant("SELECT, INSERT, UPDATE (state, closed_height, closed_at)", "holding_breaks")


def amount(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.Numeric(78, 0), nullable=nullable)


def number(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger, autoincrement=False, nullable=nullable)


def moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def created_at() -> sa.Column[object]:
    return sa.Column(
        "created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
    )


def of_vault(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["tenant_id", "vault_id"], ["vaults.tenant_id", "vaults.id"], name=f"fk_{table}_tenant_id_vault_id"
    )


def holding_states() -> None:
    op.create_table(
        "holding_states",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("vault_id", sa.Uuid, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        number("height"),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("present", sa.Boolean, nullable=False),
        amount("before"),
        amount("amount"),
        amount("selling"),
        amount("buying"),
        amount("limit_amount", nullable=True),
        sa.Column("authorized", sa.Text, nullable=False),
        sa.Column("clawback", sa.Boolean, nullable=False),
        sa.Column("differing_tx", sa.Text, nullable=True),
        moment("closed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "vault_id", "asset", "height", name="pk_holding_states"),
        of_vault("holding_states"),
        sa.CheckConstraint("authorized IN ('full', 'maintain', 'none')", name="authorized_known"),
        sa.CheckConstraint(
            "amount >= 0 AND before >= 0 AND selling >= 0 AND buying >= 0", name="not_negative"
        ),
        sa.CheckConstraint("present OR amount = 0", name="absent_holds_nothing"),
    )
    op.create_index("ix_holding_states_height", "holding_states", ["tenant_id", "chain", "height"])


def account_states() -> None:
    op.create_table(
        "account_states",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("vault_id", sa.Uuid, nullable=False),
        number("height"),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("present", sa.Boolean, nullable=False),
        number("sequence"),
        number("subentries"),
        number("sponsoring"),
        number("sponsored"),
        number("base_reserve"),
        amount("minimum"),
        amount("spendable"),
        sa.Column("master_weight", sa.Integer, nullable=False),
        sa.Column("low", sa.Integer, nullable=False),
        sa.Column("medium", sa.Integer, nullable=False),
        sa.Column("high", sa.Integer, nullable=False),
        number("flags"),
        sa.Column("home_domain", sa.Text, nullable=False),
        sa.Column("sponsor", sa.Text, nullable=True),
        sa.Column("signers", postgresql.JSONB, nullable=False),
        moment("closed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "vault_id", "height", name="pk_account_states"),
        of_vault("account_states"),
    )


def account_data() -> None:
    op.create_table(
        "account_data",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("vault_id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        number("height"),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=True),
        moment("closed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "vault_id", "name", "height", name="pk_account_data"),
        of_vault("account_data"),
    )


def holdings() -> None:
    op.create_table(
        "holdings",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("vault_id", sa.Uuid, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        number("opening_height", nullable=True),
        amount("opening", nullable=True),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "vault_id", "asset", name="pk_holdings"),
        of_vault("holdings"),
        sa.CheckConstraint("(opening IS NULL) = (opening_height IS NULL)", name="opening_whole"),
    )


def comparisons() -> None:
    op.create_table(
        "holding_comparisons",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("vault_id", sa.Uuid, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        number("height"),
        number("state_height"),
        amount("books"),
        amount("opening"),
        amount("chain_amount"),
        created_at(),
        sa.PrimaryKeyConstraint("tenant_id", "vault_id", "asset", "height", name="pk_holding_comparisons"),
        of_vault("holding_comparisons"),
        sa.CheckConstraint("state_height <= height", name="state_not_above_books"),
    )


def breaks() -> None:
    op.create_table(
        "holding_breaks",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("vault_id", sa.Uuid, nullable=False),
        sa.Column("asset", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        number("height"),
        number("state_height"),
        amount("books"),
        amount("opening"),
        amount("chain_amount"),
        number("first_height"),
        sa.Column("first_tx", sa.Text, nullable=True),
        created_at(),
        number("closed_height", nullable=True),
        moment("closed_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_holding_breaks"),
        of_vault("holding_breaks"),
        sa.CheckConstraint("state IN ('open', 'closed')", name="state_known"),
        sa.CheckConstraint("books + opening <> chain_amount", name="differs"),
        sa.CheckConstraint("num_nulls(closed_height, closed_at) IN (0, 2)", name="closing_whole"),
        sa.CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="closed_says_when"),
    )
    op.create_index(
        "uq_holding_breaks_open",
        "holding_breaks",
        ["tenant_id", "vault_id", "asset"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("ix_holding_breaks_sequence", "holding_breaks", ["tenant_id", "sequence"])


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
