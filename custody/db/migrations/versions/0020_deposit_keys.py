"""Keys for deposit addresses, made ahead of need: one for each wallet, its address the same on every EVM chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import function_for_app, grant, tenant_isolation

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    batches()
    keys()
    vaults()
    op.execute(
        """
        ALTER TABLE deposit_cases
          DROP CONSTRAINT ck_deposit_cases_reason_known,
          ADD CONSTRAINT ck_deposit_cases_reason_known CHECK (reason IN ('memo_missing', 'unknown_memo', 'unattributed',
            'chain_not_enabled', 'unsupported_asset', 'below_minimum', 'dust', 'account_closed', 'account_refused', 'distrusted')) NOT VALID
        """
    )
    op.execute("ALTER TABLE deposit_cases VALIDATE CONSTRAINT ck_deposit_cases_reason_known")


def moment(name: str) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), server_default=sa.func.clock_timestamp(), nullable=False
    )


def batches() -> None:
    op.create_table(
        "deposit_key_batches",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("refusal", sa.Text, nullable=False, server_default=""),
        moment("created_at"),
        moment("changed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name="pk_deposit_key_batches"),
        sa.CheckConstraint("state IN ('asked', 'stored')", name="state_known"),
        sa.CheckConstraint("size > 0", name="size_positive"),
    )
    op.create_index(
        "uq_deposit_key_batches_asked",
        "deposit_key_batches",
        ["tenant_id"],
        unique=True,
        postgresql_where=sa.text("state = 'asked'"),
    )
    tenant_isolation("deposit_key_batches")
    grant("SELECT, INSERT, UPDATE (state, refusal, changed_at)", "deposit_key_batches")


def keys() -> None:
    op.create_table(
        "deposit_keys",
        sa.Column("tenant_id", sa.Integer, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("account", sa.Text, nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=True),
        sa.Column("attestation", sa.LargeBinary, nullable=True),
        sa.Column("batch_id", sa.Uuid, nullable=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("wallet_id", sa.Uuid, nullable=True),
        moment("created_at"),
        moment("changed_at"),
        sa.PrimaryKeyConstraint("tenant_id", "key_id", name="pk_deposit_keys"),
        sa.ForeignKeyConstraint(
            ["tenant_id", "batch_id"],
            ["deposit_key_batches.tenant_id", "deposit_key_batches.id"],
            name="fk_deposit_keys_tenant_id_deposit_key_batches",
        ),
        sa.CheckConstraint("state IN ('free', 'taken', 'set_aside')", name="state_known"),
        sa.CheckConstraint("(state = 'taken') = (wallet_id IS NOT NULL)", name="taken_by_a_wallet"),
        sa.CheckConstraint("key_id ~ '^[0-9a-f]{32}$'", name="key_id_form"),
        sa.CheckConstraint("account ~ '^0x[0-9a-fA-F]{40}$'", name="account_form"),
        sa.CheckConstraint("octet_length(public_key) = 65 AND octet_length(attestation) = 64", name="sizes"),
        sa.CheckConstraint(
            "batch_id IS NULL OR (public_key IS NOT NULL AND attestation IS NOT NULL)",
            name="batch_is_vouched_for",
        ),
        sa.CheckConstraint("batch_id IS NOT NULL OR state = 'taken'", name="free_comes_from_a_batch"),
    )
    op.create_index("uq_deposit_keys_account", "deposit_keys", ["account"], unique=True)
    op.create_index(
        "uq_deposit_keys_wallet",
        "deposit_keys",
        ["tenant_id", "wallet_id"],
        unique=True,
        postgresql_where=sa.text("wallet_id IS NOT NULL"),
    )
    op.create_index(
        "ix_deposit_keys_free",
        "deposit_keys",
        ["tenant_id", "sequence"],
        postgresql_where=sa.text("state = 'free'"),
    )
    grant("SELECT, INSERT, UPDATE (public_key, attestation, state, wallet_id, changed_at)", "deposit_keys")
    # The addresses that wallets have already: the oldest of each is theirs on every EVM chain.
    op.execute(
        """
        INSERT INTO deposit_keys (tenant_id, key_id, account, state, wallet_id)
        SELECT DISTINCT ON (tenant_id, wallet_id) tenant_id, key_id, account, 'taken', wallet_id FROM vaults
         WHERE purpose = 'deposit' AND chain LIKE 'eip155:%' ORDER BY tenant_id, wallet_id, id
        """
    )
    keys_stay()
    # Not forced, as with vaults: the function below must find a key of any tenant.
    op.execute("ALTER TABLE deposit_keys ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY tenant_isolation ON deposit_keys "
        "USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()))"
    )


def keys_stay() -> None:
    # One way, once: free to a wallet, or free to nobody. Whoever asks, the table's owner included.
    op.execute(
        """
        CREATE FUNCTION deposit_key_stays() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF (NEW.tenant_id, NEW.key_id, NEW.sequence, NEW.account, NEW.batch_id, NEW.created_at)
               IS DISTINCT FROM (OLD.tenant_id, OLD.key_id, OLD.sequence, OLD.account, OLD.batch_id, OLD.created_at)
             OR (OLD.public_key IS NOT NULL AND NEW.public_key IS DISTINCT FROM OLD.public_key)
             OR (OLD.state <> 'free' AND (NEW.state, NEW.wallet_id) IS DISTINCT FROM (OLD.state, OLD.wallet_id))
          THEN
            RAISE EXCEPTION 'a deposit key is given out once' USING ERRCODE = 'restrict_violation';
          END IF;
          RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER given_once BEFORE UPDATE ON deposit_keys FOR EACH ROW EXECUTE FUNCTION deposit_key_stays()"
    )
    for table in ("deposit_keys", "deposit_key_batches"):
        op.execute(
            f"CREATE TRIGGER kept_rows BEFORE DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER kept_table BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def vaults() -> None:
    # A deposit vault without a wallet is a key's account on a chain where nobody may be credited yet.
    op.execute(
        """
        ALTER TABLE vaults
          DROP CONSTRAINT ck_vaults_deposit_has_wallet,
          ADD CONSTRAINT ck_vaults_omnibus_has_no_wallet CHECK (purpose = 'deposit' OR wallet_id IS NULL) NOT VALID
        """
    )
    op.execute("ALTER TABLE vaults VALIDATE CONSTRAINT ck_vaults_omnibus_has_no_wallet")
    grant("UPDATE (wallet_id)", "vaults")
    op.execute(
        """
        CREATE FUNCTION vault_stays() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF (NEW.tenant_id, NEW.id, NEW.chain, NEW.purpose, NEW.key_id, NEW.account, NEW.created_at)
               IS DISTINCT FROM (OLD.tenant_id, OLD.id, OLD.chain, OLD.purpose, OLD.key_id, OLD.account, OLD.created_at)
             OR (OLD.wallet_id IS NOT NULL AND NEW.wallet_id IS DISTINCT FROM OLD.wallet_id)
          THEN
            RAISE EXCEPTION 'a vault stays what and whose it is' USING ERRCODE = 'restrict_violation';
          END IF;
          RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER vault_stays BEFORE UPDATE OF tenant_id, id, chain, purpose, key_id, account, created_at, wallet_id "
        "ON vaults FOR EACH ROW EXECUTE FUNCTION vault_stays()"
    )
    # A key's account is its tenant's on every EVM chain, also where it has no vault yet: what arrives there must be seen.
    op.execute(
        """
        CREATE OR REPLACE FUNCTION find_vaults(wanted_chain text, accounts text[])
        RETURNS TABLE (tenant_id int, id uuid, account text)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
          SELECT v.tenant_id, v.id, v.account FROM vaults v
          WHERE v.chain = wanted_chain AND v.account = ANY (accounts)
          UNION ALL
          SELECT k.tenant_id, NULL, k.account FROM deposit_keys k
          WHERE wanted_chain LIKE 'eip155:%' AND k.account = ANY (accounts) AND k.state <> 'set_aside'
            AND NOT EXISTS (SELECT FROM vaults v WHERE v.chain = wanted_chain AND v.account = k.account)
        $$
        """
    )
    function_for_app("find_vaults(text, text[])")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
