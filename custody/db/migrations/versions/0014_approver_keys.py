"""Approvals by passkeys and P-256 keys: longer keys and signatures, and what a browser's assertion consists of."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        ALTER TABLE approvals
          DROP CONSTRAINT ck_approvals_public_key_form,
          DROP CONSTRAINT ck_approvals_signature_form,
          ADD COLUMN credential_id text,
          ADD COLUMN authenticator_data bytea,
          ADD COLUMN client_data_json bytea,
          ADD CONSTRAINT ck_approvals_public_key_form CHECK (public_key ~ '^([0-9a-f]{2})+$' AND length(public_key) <= 1024),
          ADD CONSTRAINT ck_approvals_signature_form CHECK (signature ~ '^([0-9a-f]{2})+$' AND length(signature) <= 1024),
          ADD CONSTRAINT ck_approvals_assertion_whole CHECK (
            num_nulls(credential_id, authenticator_data, client_data_json) IN (0, 3)),
          ADD CONSTRAINT ck_approvals_assertion_bounded CHECK (
            length(credential_id) <= 1364 AND octet_length(authenticator_data) = 37 AND octet_length(client_data_json) <= 2048)
        """
    )
