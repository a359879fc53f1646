"""Tenants, assets, API keys, idempotency, outbox, audit, and the functions that every later table leans on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from custody.db.ddl import append_only, function_for_app, grant, tenant_isolation

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    helpers()
    identity()
    assets()
    idempotency()
    events()
    audit()


def helpers() -> None:
    op.execute(
        """
        CREATE FUNCTION current_tenant() RETURNS int LANGUAGE sql STABLE PARALLEL SAFE
        AS $$ SELECT nullif(current_setting('app.tenant', true), '')::int $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          RAISE EXCEPTION '% is history: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
        END $$
        """
    )
    function_for_app("current_tenant()")
    # Readiness compares the schema's version with the code's.
    grant("SELECT", "alembic_version")


def identity() -> None:
    op.create_table(
        "tenants",
        sa.Column("id", sa.Integer, sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name="pk_tenants"),
        sa.UniqueConstraint("name", name="uq_tenants_name"),
    )
    grant("SELECT, INSERT", "tenants")
    op.create_table(
        "api_keys",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
        ),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_api_keys"),
    )
    # The hash is looked up before the tenant is known, so this one index does not start with the tenant.
    op.create_index("uq_api_keys_secret_sha256", "api_keys", ["secret_sha256"], unique=True)
    grant("SELECT, INSERT, UPDATE (revoked_at)", "api_keys")
    # Row-level security, but not forced: the function below, owned by the same role, must find a key of any tenant.
    op.execute("ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant_isolation ON api_keys "
        "USING (tenant_id = current_tenant()) WITH CHECK (tenant_id = current_tenant())"
    )
    op.execute(
        """
        CREATE FUNCTION find_api_key(hash bytea) RETURNS TABLE (tenant_id int, id uuid, subject text, scopes text[])
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT k.tenant_id, k.id, k.subject, k.scopes FROM api_keys k
          WHERE k.secret_sha256 = hash AND k.revoked_at IS NULL
            AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
        $$
        """
    )
    function_for_app("find_api_key(bytea)")


def assets() -> None:
    op.create_table(
        "assets",
        sa.Column("number", sa.Integer, sa.Identity(always=True), nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("chain", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("decimals", sa.SmallInteger, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
        ),
        sa.PrimaryKeyConstraint("number", name="pk_assets"),
        sa.UniqueConstraint("id", name="uq_assets_id"),
        sa.CheckConstraint("decimals BETWEEN 0 AND 36", name="decimals_range"),
        sa.CheckConstraint("length(code) BETWEEN 1 AND 12", name="code_length"),
    )
    append_only("assets")
    grant("SELECT, INSERT", "assets")


def idempotency() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("principal_id", sa.Uuid, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.LargeBinary, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
        ),
        sa.PrimaryKeyConstraint("tenant_id", "principal_id", "key", name="pk_idempotency_keys"),
        sa.CheckConstraint("length(key) BETWEEN 1 AND 255", name="key_length"),
        sa.CheckConstraint("length(fingerprint) = 32", name="fingerprint_length"),
    )
    tenant_isolation("idempotency_keys")
    append_only("idempotency_keys")
    grant("SELECT, INSERT", "idempotency_keys")


def events() -> None:
    op.create_table(
        "outbox",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("object_id", sa.Uuid, nullable=False),
        sa.Column("data", postgresql.JSONB, nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
        ),
        sa.Column("relayed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_tenant_id_sequence", "outbox", ["tenant_id", "sequence"])
    op.create_index("ix_outbox_object_id", "outbox", ["tenant_id", "object_id", "sequence"])
    op.create_index(
        "ix_outbox_unrelayed",
        "outbox",
        ["tenant_id", "sequence"],
        postgresql_where=sa.text("relayed_at IS NULL"),
    )
    tenant_isolation("outbox")
    grant("SELECT, INSERT, UPDATE (relayed_at)", "outbox")


def audit() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object_id", sa.Uuid, nullable=False),
        sa.Column("detail", postgresql.JSONB, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "sequence", name="pk_audit_entries"),
        sa.CheckConstraint("sequence > 0", name="sequence_positive"),
        sa.CheckConstraint("length(hash) = 32", name="hash_length"),
    )
    op.create_index("ix_audit_entries_object_id", "audit_entries", ["tenant_id", "object_id", "sequence"])
    tenant_isolation("audit_entries")
    append_only("audit_entries")
    grant("SELECT, INSERT", "audit_entries")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
