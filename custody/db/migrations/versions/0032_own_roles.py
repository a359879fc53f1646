"""Roles of a tenant's own, and confirmations by passkey that name the one action that they are for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from custody.db.ddl import append_only, grant, tenant_isolation

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    confirmed_actions()
    own_roles()


def confirmed_actions() -> None:
    """Without an action, a touch counts for whatever is asked in that sign-in for a while: as before."""
    op.add_column("step_ups", sa.Column("action", sa.Text, nullable=True))
    op.add_column("step_ups", sa.Column("action_sha256", sa.LargeBinary, nullable=True))
    op.execute(
        "ALTER TABLE step_ups ADD CONSTRAINT ck_step_ups_action_hashed "
        "CHECK ((action IS NULL) = (action_sha256 IS NULL)) NOT VALID"
    )
    op.execute("ALTER TABLE step_ups VALIDATE CONSTRAINT ck_step_ups_action_hashed")


def own_roles() -> None:
    op.execute(
        """
        CREATE TABLE identity_roles (
          tenant_id int NOT NULL,
          id uuid NOT NULL,
          version int NOT NULL CONSTRAINT ck_identity_roles_version_positive CHECK (version > 0),
          name text NOT NULL CONSTRAINT ck_identity_roles_name_own CHECK (name ~ '^own:[a-z][a-z0-9-]{0,39}$'),
          permissions text[] NOT NULL,
          retired boolean NOT NULL,
          actor text NOT NULL,
          note text NOT NULL,
          created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
          CONSTRAINT pk_identity_roles PRIMARY KEY (tenant_id, id, version),
          CONSTRAINT ck_identity_roles_retired_grants_nothing CHECK (retired = (cardinality(permissions) = 0)),
          -- Who administers is a matter of the built-in roles alone.
          CONSTRAINT ck_identity_roles_administers_nothing CHECK (NOT permissions && ARRAY['admin:unattended',
            'clients:write', 'keys:write', 'members:write', 'roles:write', 'settings:write', 'switches:write', 'webhooks:write'])
        )
        """
    )
    op.create_index("uq_identity_roles_name", "identity_roles", ["tenant_id", "name", "version"], unique=True)
    # Each version follows the one before it, and nothing follows a retirement.
    op.execute(
        """
        CREATE FUNCTION follow_role() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
          v_last identity_roles%ROWTYPE;
        BEGIN
          SELECT * INTO v_last FROM identity_roles r
           WHERE r.tenant_id = NEW.tenant_id AND r.id = NEW.id ORDER BY r.version DESC LIMIT 1;
          IF NEW.version <> coalesce(v_last.version, 0) + 1 OR coalesce(v_last.retired, false)
             OR NEW.name <> coalesce(v_last.name, NEW.name) THEN
            RAISE EXCEPTION 'this version of the role follows none' USING ERRCODE = 'check_violation';
          END IF;
          RETURN NEW;
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER follows_the_last BEFORE INSERT ON identity_roles FOR EACH ROW EXECUTE FUNCTION follow_role()"
    )
    tenant_isolation("identity_roles")
    append_only("identity_roles")
    grant("SELECT, INSERT", "identity_roles")


def downgrade() -> None:
    raise RuntimeError("migrations go forward only")
