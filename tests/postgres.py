"""One Postgres per test process, one database per test, cloned from a migrated template."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncpg

from custody.db.provision import provision
from devnet.postgres import Postgres
from devnet.throwaway import throwaway_postgres

APP_PASSWORD = "custody-test"
TEMPLATE = "custody_template"
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Cluster:
    """A running server with a migrated template."""

    server: Postgres

    def dsn(self, database: str, user: str = "postgres") -> str:
        """How this user reaches a database."""
        return self.server.dsn(user, APP_PASSWORD if user == "custody_app" else None, database)

    async def create(self) -> str:
        """A fresh migrated database; its name."""
        name = f"test_{next(_numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
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


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A server without durability (a test's database does not outlive its test) and with the template migrated."""
    with throwaway_postgres() as server:
        server.run_sql(f"CREATE DATABASE {TEMPLATE}")
        cluster = Cluster(server)
        provision(cluster.dsn(TEMPLATE), APP_PASSWORD)
        yield cluster
