"""What migrations say again and again: tenant isolation, append-only history, grants.

Used by migrations only. A table without `append_only` may be updated by the application where it was granted; a table with it
may not be changed by anybody, its owner included.
"""

from __future__ import annotations

from alembic import op

APP_ROLE = "custody_app"
"""The role of every process that has database credentials."""
OWNER_ROLE = "custody_owner"
"""The role that owns schema and functions. Nobody logs in as it."""


def tenant_isolation(*tables: str) -> None:
    """Force row-level security: rows of the transaction's tenant only, for reading and writing, also for the owner.

    The tenant is asked for in a subquery: once a statement, where the bare function would be called for each row."""
    for table in tables:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        op.execute(
            f"CREATE POLICY tenant_isolation ON {table} "
            "USING (tenant_id = (SELECT current_tenant())) WITH CHECK (tenant_id = (SELECT current_tenant()))"
        )


def append_only(*tables: str) -> None:
    """Refuse UPDATE, DELETE and TRUNCATE, whoever asks."""
    for table in tables:
        op.execute(
            f"CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        op.execute(
            f"CREATE TRIGGER append_only_table BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def grant(privileges: str, *tables: str) -> None:
    """Let the application do this much, and no more, with these tables."""
    for table in tables:
        op.execute(f"GRANT {privileges} ON {table} TO {APP_ROLE}")


def function_for_app(signature: str) -> None:
    """Let the application, and nobody else, call a function: `name(argument types)`."""
    op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {signature} TO {APP_ROLE}")
