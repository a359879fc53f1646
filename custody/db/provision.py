"""Make a database ready: the two roles, then every migration. Safe to repeat.

Run by an administrator (`python -m custody.db.provision`, the compose file's `migrate` service, the local stack); the product's
processes connect as `custody_app` and can do none of this.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config

from custody.kernel.errors import InvalidInput

MIGRATIONS = Path(__file__).parent / "migrations"

_PASSWORD = re.compile(r"[A-Za-z0-9_-]{1,128}")


class UnusablePassword(InvalidInput):
    """The application role's password has characters that cannot be put into a role definition safely."""

    code = "unusable_password"
    public = "The application's database password must be 1 to 128 letters, digits, '_' or '-'."


def alembic_config(admin_dsn: str) -> Config:
    """Alembic's configuration for this database."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", admin_dsn.replace("%", "%%"))
    return config


async def create_roles(admin_dsn: str, app_password: str) -> None:
    """The owner of the schema (no login) and the application's role. Idempotent."""
    if not _PASSWORD.fullmatch(app_password):
        raise UnusablePassword
    connection = await asyncpg.connect(admin_dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(7263549)")
            await _create_role(connection, "custody_owner", "NOLOGIN")
            await _create_role(connection, "custody_app", "LOGIN")
            await connection.execute(f"ALTER ROLE custody_app PASSWORD '{app_password}'")
            await connection.execute("GRANT custody_owner TO CURRENT_USER")
            name = await connection.fetchval("SELECT quote_ident(current_database())")
            await connection.execute(f"GRANT CREATE ON DATABASE {name} TO custody_owner")
            await connection.execute("GRANT ALL ON SCHEMA public TO custody_owner")
            await connection.execute("GRANT USAGE ON SCHEMA public TO custody_app")
    finally:
        await connection.close()


async def _create_role(connection: asyncpg.Connection[asyncpg.Record], name: str, login: str) -> None:
    exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", name)
    if exists is None:
        await connection.execute(
            f"CREATE ROLE {name} {login} NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS"
        )


def provision(admin_dsn: str, app_password: str) -> None:
    """Roles and all migrations, from whatever state the database is in. Blocking: call it outside an event loop."""
    asyncio.run(create_roles(admin_dsn, app_password))
    command.upgrade(alembic_config(admin_dsn), "head")


def main() -> int:
    """`python -m custody.db.provision --admin-dsn-file F --app-password-file F`: secrets come by file, never by argument."""
    parser = argparse.ArgumentParser(description="Create the roles and run the migrations.")
    parser.add_argument("--admin-dsn-file", type=Path, required=True)
    parser.add_argument("--app-password-file", type=Path, required=True)
    chosen = parser.parse_args()
    provision(chosen.admin_dsn_file.read_text().strip(), chosen.app_password_file.read_text().strip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
