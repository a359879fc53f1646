"""Who may: roles and rotation of keys, people by OIDC, machines by OAuth2, passkeys of administrators, and customers' own view.

A transaction that names a customer (`app.customer`) has no tenant for the policies of old and of every table to come: it sees
nothing but what is opened to customers here, and can write nothing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from custody.db.ddl import function_for_app, grant, tenant_isolation

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None


def upgrade() -> None:
    api_keys()
    issuers()
    members()
    clients()
    access_tokens()
    passkeys()
    pruning()
    customers_view()
    sides_of_transfers()


def when(name: str, *, nullable: bool = False, now: bool = False) -> sa.Column[object]:
    default = sa.func.clock_timestamp() if now else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=default)


def words(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.ARRAY(sa.Text), nullable=False)


def api_keys() -> None:
    op.add_column("api_keys", sa.Column("principal_id", sa.Uuid, nullable=True))
    op.add_column(
        "api_keys",
        sa.Column("roles", postgresql.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
    )
    op.add_column("api_keys", when("last_used_at", nullable=True))
    grant("UPDATE (expires_at, last_used_at)", "api_keys")
    op.execute("DROP FUNCTION find_api_key(bytea)")
    op.execute(
        """
        CREATE FUNCTION find_api_key(hash bytea) RETURNS TABLE (tenant_id int, id uuid, principal_id uuid, subject text,
          scopes text[], roles text[], expires_at timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT k.tenant_id, k.id, coalesce(k.principal_id, k.id), k.subject, k.scopes, k.roles, k.expires_at FROM api_keys k
          WHERE k.secret_sha256 = hash AND k.revoked_at IS NULL
            AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())
        $$
        """
    )
    function_for_app("find_api_key(bytea)")


def crossed(table: str) -> None:
    """Row-level security, but not forced: a function owned by the same role must find a row of any tenant."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY tenant_isolation ON {table} "
        "USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()))"
    )


def issuers() -> None:
    op.create_table(
        "identity_issuers",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("audience", sa.Text, nullable=False),
        sa.Column("jwks_uri", sa.Text, nullable=False),
        sa.Column("subject_claim", sa.Text, nullable=False),
        sa.Column("roles_claim", sa.Text, nullable=False),
        sa.Column("roles", postgresql.JSONB, nullable=False),
        sa.Column("mfa_claim", sa.Text, nullable=False),
        words("mfa_values"),
        when("revoked_at", nullable=True),
        when("created_at", now=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_identity_issuers"),
    )
    # What a token names, before the tenant is known.
    op.create_index(
        "uq_identity_issuers_audience",
        "identity_issuers",
        ["issuer", "audience"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    crossed("identity_issuers")
    grant("SELECT, INSERT, UPDATE (revoked_at)", "identity_issuers")
    op.execute(
        """
        CREATE FUNCTION find_issuer(p_issuer text, p_audiences text[]) RETURNS SETOF identity_issuers
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT i.* FROM identity_issuers i
          WHERE i.issuer = p_issuer AND i.audience = ANY(p_audiences) AND i.revoked_at IS NULL
          ORDER BY array_position(p_audiences, i.audience) LIMIT 1
        $$
        """
    )
    function_for_app("find_issuer(text, text[])")


def members() -> None:
    op.create_table(
        "identity_members",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        words("roles"),
        sa.Column("disabled", sa.Boolean, nullable=False),
        when("created_at", now=True),
        when("changed_at", now=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_identity_members"),
    )
    op.create_index("uq_identity_members_subject", "identity_members", ["tenant_id", "subject"], unique=True)
    tenant_isolation("identity_members")
    grant("SELECT, INSERT, UPDATE (roles, disabled, changed_at)", "identity_members")


def clients() -> None:
    op.create_table(
        "oauth_clients",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        words("roles"),
        sa.Column("keys", postgresql.JSONB, nullable=False),
        when("revoked_at", nullable=True),
        when("created_at", now=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_oauth_clients"),
    )
    op.create_index("uq_oauth_clients_id", "oauth_clients", ["id"], unique=True)
    crossed("oauth_clients")
    grant("SELECT, INSERT, UPDATE (revoked_at)", "oauth_clients")
    op.execute(
        """
        CREATE FUNCTION find_oauth_client(p_id uuid) RETURNS SETOF oauth_clients
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT c.* FROM oauth_clients c WHERE c.id = p_id AND c.revoked_at IS NULL
        $$
        """
    )
    function_for_app("find_oauth_client(uuid)")
    op.create_table(
        "oauth_assertions",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("client_id", sa.Uuid, nullable=False),
        sa.Column("jti", sa.Text, nullable=False),
        when("expires_at"),
        when("created_at", now=True),
        sa.PrimaryKeyConstraint("tenant_id", "client_id", "jti", name="pk_oauth_assertions"),
    )
    op.create_index("ix_oauth_assertions_expires_at", "oauth_assertions", ["tenant_id", "expires_at"])
    tenant_isolation("oauth_assertions")
    grant("SELECT, INSERT", "oauth_assertions")


def access_tokens() -> None:
    op.create_table(
        "access_tokens",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("principal_id", sa.Uuid, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        words("grants"),
        sa.Column("customer_id", sa.Uuid, nullable=True),
        when("expires_at"),
        when("revoked_at", nullable=True),
        when("created_at", now=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_access_tokens"),
        sa.CheckConstraint("kind IN ('client', 'customer')", name="kind_known"),
        sa.CheckConstraint("(kind = 'customer') = (customer_id IS NOT NULL)", name="customer_named"),
    )
    # As with keys: the hash is looked up before the tenant is known.
    op.create_index("uq_access_tokens_secret_sha256", "access_tokens", ["secret_sha256"], unique=True)
    op.create_index(
        "ix_access_tokens_principal_id", "access_tokens", ["tenant_id", "principal_id", "expires_at"]
    )
    op.create_index("ix_access_tokens_expires_at", "access_tokens", ["tenant_id", "expires_at"])
    crossed("access_tokens")
    grant("SELECT, INSERT, UPDATE (revoked_at)", "access_tokens")
    op.execute(
        """
        CREATE FUNCTION find_access_token(hash bytea) RETURNS TABLE (tenant_id int, id uuid, kind text, principal_id uuid,
          subject text, grants text[], customer_id uuid, expires_at timestamptz)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT t.tenant_id, t.id, t.kind, t.principal_id, t.subject, t.grants, t.customer_id, t.expires_at FROM access_tokens t
          WHERE t.secret_sha256 = hash AND t.revoked_at IS NULL AND t.expires_at > clock_timestamp()
        $$
        """
    )
    function_for_app("find_access_token(bytea)")


def passkeys() -> None:
    op.create_table(
        "admin_passkeys",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("credential_id", sa.Text, nullable=False),
        sa.Column("rp_id", sa.Text, nullable=False),
        words("origins"),
        sa.Column("device_bound", sa.Boolean, nullable=False),
        sa.Column("counter", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        when("revoked_at", nullable=True),
        when("created_at", now=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_admin_passkeys"),
        sa.CheckConstraint("algorithm IN ('ES256', 'EdDSA', 'RS256')", name="algorithm_known"),
    )
    op.create_index(
        "uq_admin_passkeys_credential_id", "admin_passkeys", ["tenant_id", "credential_id"], unique=True
    )
    op.create_index("ix_admin_passkeys_subject", "admin_passkeys", ["tenant_id", "subject"])
    op.create_table(
        "step_ups",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("principal_id", sa.Uuid, nullable=False),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("challenge", sa.LargeBinary, nullable=False),
        when("expires_at"),
        when("done_at", nullable=True),
        sa.Column("passkey_id", sa.Uuid, nullable=True),
        when("created_at", now=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_step_ups"),
        sa.CheckConstraint("(done_at IS NULL) = (passkey_id IS NULL)", name="done_by_a_passkey"),
        sa.CheckConstraint("length(challenge) = 32", name="challenge_length"),
    )
    op.create_index("ix_step_ups_session", "step_ups", ["tenant_id", "principal_id", "session", "expires_at"])
    op.create_index("ix_step_ups_expires_at", "step_ups", ["tenant_id", "expires_at"])
    tenant_isolation("admin_passkeys", "step_ups")
    grant("SELECT, INSERT, UPDATE (counter, revoked_at)", "admin_passkeys")
    grant("SELECT, INSERT, UPDATE (expires_at, done_at, passkey_id)", "step_ups")


def pruning() -> None:
    """What has long expired may go, and nothing else may: the application itself deletes nothing."""
    op.execute(
        """
        CREATE FUNCTION prune_credentials() RETURNS integer
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        DECLARE
          v_tenant int := current_tenant();
          v_long_ago timestamptz := clock_timestamp() - interval '1 day';
          v_gone integer := 0;
          v_some integer;
        BEGIN
          DELETE FROM access_tokens t WHERE t.tenant_id = v_tenant AND t.expires_at < v_long_ago;
          GET DIAGNOSTICS v_some = ROW_COUNT; v_gone := v_gone + v_some;
          DELETE FROM oauth_assertions a WHERE a.tenant_id = v_tenant AND a.expires_at < v_long_ago;
          GET DIAGNOSTICS v_some = ROW_COUNT; v_gone := v_gone + v_some;
          DELETE FROM step_ups s WHERE s.tenant_id = v_tenant AND s.expires_at < v_long_ago;
          GET DIAGNOSTICS v_some = ROW_COUNT; v_gone := v_gone + v_some;
          RETURN v_gone;
        END $$
        """
    )
    function_for_app("prune_credentials()")


def customers_view() -> None:
    op.execute(
        """
        CREATE OR REPLACE FUNCTION current_tenant() RETURNS int LANGUAGE sql STABLE PARALLEL SAFE
        AS $$ SELECT CASE WHEN coalesce(current_setting('app.customer', true), '') = ''
                          THEN nullif(current_setting('app.tenant', true), '')::int END $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION current_customer() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
        AS $$ SELECT nullif(current_setting('app.customer', true), '')::uuid $$
        """
    )
    op.execute(
        """
        CREATE FUNCTION customer_tenant() RETURNS int LANGUAGE sql STABLE PARALLEL SAFE
        AS $$ SELECT CASE WHEN coalesce(current_setting('app.customer', true), '') <> ''
                          THEN nullif(current_setting('app.tenant', true), '')::int END $$
        """
    )
    for name in ("current_customer()", "customer_tenant()"):
        function_for_app(name)
    op.execute(
        """
        CREATE FUNCTION own_wallets() RETURNS uuid[] LANGUAGE sql STABLE
        AS $$ SELECT array(SELECT w.id FROM wallets w
                            WHERE w.tenant_id = customer_tenant() AND w.customer_id = current_customer()) $$
        """
    )
    function_for_app("own_wallets()")
    wallets = "(SELECT w.id FROM wallets w WHERE w.tenant_id = (SELECT customer_tenant()))"
    accounts = "(SELECT a.id FROM ledger_accounts a WHERE a.tenant_id = (SELECT customer_tenant()))"
    for table, rule in {
        "customers": "id = (SELECT current_customer())",
        "wallets": "customer_id = (SELECT current_customer())",
        "deposit_addresses": f"wallet_id IN {wallets}",
        "deposit_keys": f"wallet_id IN {wallets}",
        "deposits": f"wallet_id IN {wallets}",
        "withdrawals": f"wallet_id IN {wallets}",
        "withdrawal_attempts": "withdrawal_id IN "
        "(SELECT w.id FROM withdrawals w WHERE w.tenant_id = (SELECT customer_tenant()))",
        "ledger_accounts": f"kind = 'wallet' AND owner IN {wallets}",
        "ledger_transfers": f"(debit_account IN {accounts} OR credit_account IN {accounts})",
        "ledger_batches": "EXISTS (SELECT FROM ledger_transfers t WHERE t.tenant_id = ledger_batches.tenant_id "
        "AND t.batch_id = ledger_batches.id AND t.booked_at = ledger_batches.booked_at)",
        "ledger_commands": "EXISTS (SELECT FROM ledger_transfers t WHERE t.tenant_id = ledger_commands.tenant_id "
        "AND t.batch_id = ledger_commands.batch_id AND t.leaf = ledger_commands.leaf "
        "AND t.booked_at = ledger_commands.booked_at)",
    }.items():
        op.execute(
            f"CREATE POLICY customer_view ON {table} FOR SELECT "
            f"USING (tenant_id = (SELECT customer_tenant()) AND {rule})"
        )


def sides_of_transfers() -> None:
    """A customer sees the transfers of its wallets, and whose wallet is on the other side, but nothing of that account."""
    op.execute(
        """
        CREATE FUNCTION transfer_sides(p_tenant integer, p_customer uuid, p_debit uuid, p_credit uuid)
        RETURNS TABLE (asset text, debit_kind text, debit_owner uuid, credit_kind text, credit_owner uuid)
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
        BEGIN
          -- As the tenant for one question, and then as the customer again.
          PERFORM set_config('app.customer', '', true);
          RETURN QUERY SELECT s.id, d.kind, d.owner, c.kind, c.owner
            FROM ledger_accounts d
            JOIN ledger_accounts c ON c.tenant_id = d.tenant_id AND c.id = p_credit
            JOIN assets s ON s.number = d.asset_id
           WHERE d.tenant_id = p_tenant AND d.id = p_debit
             AND EXISTS (SELECT FROM wallets w WHERE w.tenant_id = p_tenant AND w.customer_id = p_customer
                            AND w.id IN (d.owner, c.owner));
          PERFORM set_config('app.customer', coalesce(p_customer::text, ''), true);
        END         $$
        """
    )
    function_for_app("transfer_sides(integer, uuid, uuid, uuid)")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
