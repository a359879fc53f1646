"""Tenants, what their machines and people present, and who may do what."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from custody.db.base import metadata
from custody.db.columns import (
    choice_column,
    created_at,
    tenant_column,
    text_column,
    utc_column,
    uuid_column,
    uuid_key,
)

ALGORITHMS = ("ES256", "EdDSA", "RS256")
"""What an administrator's passkey may sign with."""

tenants = Table(
    "tenants",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    text_column("name", unique=True),
    created_at(),
)

api_keys = Table(
    "api_keys",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("secret_sha256", LargeBinary, nullable=False),
    text_column("subject"),
    Column("scopes", ARRAY(Text), nullable=False),
    utc_column("expires_at", nullable=True),
    utc_column("revoked_at", nullable=True),
    created_at(),
    # Whom it speaks for; a key and what it was rotated into speak for the same. None: for nobody but itself.
    uuid_column("principal_id", nullable=True),
    Column("roles", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    # To the minute; written beside requests, not in them.
    utc_column("last_used_at", nullable=True),
    Index("uq_api_keys_secret_sha256", "secret_sha256", unique=True),
)

issuers = Table(
    "identity_issuers",
    metadata,
    tenant_column(),
    uuid_key(),
    text_column("issuer"),
    text_column("audience"),
    text_column("jwks_uri"),
    text_column("subject_claim"),
    text_column("roles_claim"),
    # The provider's word to our role.
    Column("roles", JSONB, nullable=False),
    text_column("mfa_claim"),
    Column("mfa_values", ARRAY(Text), nullable=False),
    utc_column("revoked_at", nullable=True),
    created_at(),
    # A token names these two, and they name one tenant.
    Index(
        "uq_identity_issuers_audience",
        "issuer",
        "audience",
        unique=True,
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

members = Table(
    "identity_members",
    metadata,
    tenant_column(),
    uuid_key(),
    text_column("subject"),
    Column("roles", ARRAY(Text), nullable=False),
    # Shut out, whatever a token says.
    Column("disabled", Boolean, nullable=False),
    created_at(),
    utc_column("changed_at", server_default=text("clock_timestamp()")),
    Index("uq_identity_members_subject", "tenant_id", "subject", unique=True),
)

own_roles = Table(
    "identity_roles",
    metadata,
    tenant_column(),
    # Derived from the name, which is never used again for another role.
    uuid_key(),
    # The last one is in force.
    Column("version", Integer, primary_key=True, autoincrement=False),
    text_column("name"),
    Column("permissions", ARRAY(Text), nullable=False),
    Column("retired", Boolean, nullable=False),
    text_column("actor"),
    text_column("note"),
    created_at(),
    CheckConstraint("version > 0", name="version_positive"),
    CheckConstraint("name ~ '^own:[a-z][a-z0-9-]{0,39}$'", name="name_own"),
    CheckConstraint("retired = (cardinality(permissions) = 0)", name="retired_grants_nothing"),
    CheckConstraint(
        "NOT permissions && ARRAY['admin:unattended', 'clients:write', 'keys:write', 'members:write', "
        "'roles:write', 'settings:write', 'switches:write', 'webhooks:write']",
        name="administers_nothing",
    ),
    Index("uq_identity_roles_name", "tenant_id", "name", "version", unique=True),
)

clients = Table(
    "oauth_clients",
    metadata,
    tenant_column(),
    uuid_key(),
    text_column("subject"),
    Column("roles", ARRAY(Text), nullable=False),
    # Public JWKs.
    Column("keys", JSONB, nullable=False),
    utc_column("revoked_at", nullable=True),
    created_at(),
    Index("uq_oauth_clients_id", "id", unique=True),
)

assertions = Table(
    "oauth_assertions",
    metadata,
    tenant_column(),
    uuid_column("client_id", primary_key=True),
    # Of a client's signed request for a token; each counts once.
    text_column("jti", primary_key=True),
    utc_column("expires_at"),
    created_at(),
    Index("ix_oauth_assertions_expires_at", "tenant_id", "expires_at"),
)

access_tokens = Table(
    "access_tokens",
    metadata,
    tenant_column(),
    uuid_key(),
    Column("secret_sha256", LargeBinary, nullable=False),
    choice_column("kind", ("client", "customer")),
    # The client, or what is derived from the customer.
    uuid_column("principal_id"),
    text_column("subject"),
    # Of a client: roles. Of a customer: what it may do beyond reading.
    Column("grants", ARRAY(Text), nullable=False),
    uuid_column("customer_id", nullable=True),
    utc_column("expires_at"),
    utc_column("revoked_at", nullable=True),
    created_at(),
    CheckConstraint("(kind = 'customer') = (customer_id IS NOT NULL)", name="customer_named"),
    Index("uq_access_tokens_secret_sha256", "secret_sha256", unique=True),
    Index("ix_access_tokens_principal_id", "tenant_id", "principal_id", "expires_at"),
    Index("ix_access_tokens_expires_at", "tenant_id", "expires_at"),
)

passkeys = Table(
    "admin_passkeys",
    metadata,
    tenant_column(),
    uuid_key(),
    text_column("subject"),
    choice_column("algorithm", ALGORITHMS),
    text_column("public_key"),
    text_column("credential_id"),
    text_column("rp_id"),
    Column("origins", ARRAY(Text), nullable=False),
    Column("device_bound", Boolean, nullable=False),
    Column("counter", BigInteger, nullable=False, server_default=text("0")),
    utc_column("revoked_at", nullable=True),
    created_at(),
    Index("uq_admin_passkeys_credential_id", "tenant_id", "credential_id", unique=True),
    Index("ix_admin_passkeys_subject", "tenant_id", "subject"),
)

step_ups = Table(
    "step_ups",
    metadata,
    tenant_column(),
    uuid_key(),
    uuid_column("principal_id"),
    # SHA-256 of the sign-in; a touch counts in no other.
    text_column("session"),
    Column("challenge", LargeBinary, nullable=False),
    # Until when it may be answered; once answered, until when it counts.
    utc_column("expires_at"),
    utc_column("done_at", nullable=True),
    uuid_column("passkey_id", nullable=True),
    created_at(),
    # The one action that a touch counts for, as the person reads it; without one, whatever is asked meanwhile.
    text_column("action", nullable=True),
    Column("action_sha256", LargeBinary, nullable=True),
    CheckConstraint("(action IS NULL) = (action_sha256 IS NULL)", name="action_hashed"),
    CheckConstraint("(done_at IS NULL) = (passkey_id IS NULL)", name="done_by_a_passkey"),
    CheckConstraint("length(challenge) = 32", name="challenge_length"),
    Index("ix_step_ups_session", "tenant_id", "principal_id", "session", "expires_at"),
    Index("ix_step_ups_expires_at", "tenant_id", "expires_at"),
)
