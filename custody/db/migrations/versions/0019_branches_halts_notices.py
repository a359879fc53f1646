"""Branches of chains that go back, chains that are halted, what a person should see of blocks, and the survey over accounts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import append_only, function_for_app, grant, tenant_isolation

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
BRANCHED = {
    "holding_states": "vault_id, asset, height",
    "account_states": "vault_id, height",
    "holding_comparisons": "vault_id, asset, height",
}
"""Tables whose rows a chain may leave, with the rest of their keys."""


def upgrade() -> None:
    branches()
    halts()
    notices()
    surveys()
    deposits()
    cases()


def number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, autoincrement=False, nullable=nullable)


def words(name: str, default: str | None = None) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False, server_default=default)


def moment(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, MOMENT, nullable=nullable)


def written(name: str = "created_at") -> sa.Column[object]:
    return sa.Column(name, MOMENT, server_default=sa.func.clock_timestamp(), nullable=False)


def branches() -> None:
    """The keys are widened: with the new column every row is as unique as it was."""
    op.create_table(
        "chain_rewinds",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        words("chain"),
        sa.Column("number", sa.Integer, autoincrement=False, nullable=False),
        number("height"),
        written(),
        sa.PrimaryKeyConstraint("tenant_id", "chain", "number", name="pk_chain_rewinds"),
        sa.CheckConstraint("number > 0 AND height >= 0", name="not_negative"),
    )
    op.create_index("ix_chain_rewinds_height", "chain_rewinds", ["tenant_id", "chain", "height"])
    tenant_isolation("chain_rewinds")
    append_only("chain_rewinds")
    grant("SELECT, INSERT", "chain_rewinds")
    for table, key in BRANCHED.items():
        op.execute(f"ALTER TABLE {table} ADD COLUMN branch integer NOT NULL DEFAULT 0")
        op.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT pk_{table},"
            f" ADD CONSTRAINT pk_{table} PRIMARY KEY (tenant_id, {key}, branch)"
        )
    op.execute(
        """
        CREATE FUNCTION holding_branch(wanted_tenant integer, wanted_chain text) RETURNS integer
        LANGUAGE sql STABLE AS $$
          SELECT coalesce(max(w.number), 0) FROM chain_rewinds w
          WHERE w.tenant_id = wanted_tenant AND w.chain = wanted_chain
        $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION is_replaced(wanted_tenant integer, wanted_chain text, wanted_branch integer, wanted_height bigint)
        RETURNS boolean LANGUAGE sql STABLE AS $$
          SELECT EXISTS (SELECT 1 FROM chain_rewinds w WHERE w.tenant_id = wanted_tenant AND w.chain = wanted_chain
            AND w.number > wanted_branch AND w.height < wanted_height)
        $$
        """
    )
    function_for_app("holding_branch(integer, text)")
    function_for_app("is_replaced(integer, text, integer, bigint)")


def halts() -> None:
    op.create_table(
        "chain_halts",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        words("chain"),
        words("state"),
        number("fork_height"),
        words("fork_hash"),
        number("our_height"),
        words("our_hash"),
        number("final_height"),
        number("seen_height"),
        words("seen_hash"),
        words("decided_by", ""),
        words("note", ""),
        sa.Column("marks_spent", sa.Boolean, nullable=False, server_default=sa.text("false")),
        words("trouble", ""),
        written(),
        moment("changed_at"),
        sa.PrimaryKeyConstraint("id", name="pk_chain_halts"),
        sa.CheckConstraint(
            "state IN ('halted', 'following', 'kept', 'resumed', 'returned')", name="state_known"
        ),
        sa.CheckConstraint("fork_height < our_height AND final_height <= our_height", name="fork_below_ours"),
        sa.CheckConstraint("state = 'halted' OR decided_by <> ''", name="somebody_decided"),
    )
    op.create_index(
        "uq_chain_halts_open",
        "chain_halts",
        ["chain"],
        unique=True,
        postgresql_where=sa.text("state IN ('halted', 'following')"),
    )
    op.create_index("ix_chain_halts_sequence", "chain_halts", ["chain", "sequence"])
    # Where the chain left our record may move while nobody has decided; what was found first is in the audit log.
    grant(
        "SELECT, INSERT, UPDATE (state, fork_height, fork_hash, our_height, our_hash, final_height, seen_height, seen_hash,"
        " chain, decided_by, note, marks_spent, trouble, changed_at)",
        "chain_halts",
    )


def notices() -> None:
    op.create_table(
        "ingestion_notices",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        words("chain"),
        number("height"),
        words("block_hash"),
        words("code"),
        words("account"),
        words("asset"),
        words("reported"),
        words("found"),
        written(),
        sa.PrimaryKeyConstraint("id", name="pk_ingestion_notices"),
        sa.CheckConstraint("height >= 0", name="not_negative"),
    )
    op.create_index("ix_ingestion_notices_sequence", "ingestion_notices", ["chain", "sequence"])
    op.create_table(
        "ingestion_notices_seen",
        sa.Column("notice_id", sa.Uuid, nullable=False),
        words("seen_by"),
        words("note"),
        written(),
        sa.PrimaryKeyConstraint("notice_id", name="pk_ingestion_notices_seen"),
        sa.ForeignKeyConstraint(
            ["notice_id"], ["ingestion_notices.id"], name="fk_ingestion_notices_seen_notice_id"
        ),
    )
    append_only("ingestion_notices", "ingestion_notices_seen")
    grant("SELECT, INSERT", "ingestion_notices", "ingestion_notices_seen")


def surveys() -> None:
    op.create_table(
        "ingestion_surveys",
        words("chain"),
        number("pass"),
        words("after", ""),
        number("height"),
        number("since_height"),
        words("trouble", ""),
        written("started_at"),
        moment("ended_at", nullable=True),
        written("updated_at"),
        sa.PrimaryKeyConstraint("chain", name="pk_ingestion_surveys"),
        sa.CheckConstraint("pass > 0", name="pass_positive"),
    )
    grant("SELECT, INSERT, UPDATE", "ingestion_surveys")
    op.execute(
        """
        CREATE FUNCTION list_vaults(wanted_chain text, after_account text, wanted integer)
        RETURNS TABLE (tenant_id int, id uuid, account text)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT v.tenant_id, v.id, v.account FROM vaults v
          WHERE v.chain = wanted_chain AND v.account > after_account ORDER BY v.account LIMIT wanted
        $$
        """
    )
    function_for_app("list_vaults(text, text, integer)")


def deposits() -> None:
    op.execute("ALTER TABLE deposits ADD COLUMN doubt text NOT NULL DEFAULT ''")
    op.execute("ALTER TABLE deposits ADD COLUMN lost boolean NOT NULL DEFAULT false")
    # What arrived never changes; whether its chain has it does.
    grant("UPDATE (lost)", "deposits")


def cases() -> None:
    """The check widens what is allowed: added unproved, then proved without a lock on writers."""
    op.execute("ALTER TABLE deposit_cases DROP CONSTRAINT ck_deposit_cases_reason_known")
    op.execute(
        "ALTER TABLE deposit_cases ADD CONSTRAINT ck_deposit_cases_reason_known CHECK (reason IN "
        "('memo_missing', 'unknown_memo', 'unattributed', 'unsupported_asset', 'below_minimum', 'dust',"
        " 'account_closed', 'account_refused', 'distrusted')) NOT VALID"
    )
    op.execute("ALTER TABLE deposit_cases VALIDATE CONSTRAINT ck_deposit_cases_reason_known")
    op.execute("ALTER TABLE deposit_rules ADD COLUMN distrusted text NOT NULL DEFAULT 'refuse'")
    op.execute(
        "ALTER TABLE deposit_rules ADD CONSTRAINT ck_deposit_rules_distrusted_known "
        "CHECK (distrusted IN ('refuse', 'mark'))"
    )
    grant("UPDATE (distrusted)", "deposit_rules")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
