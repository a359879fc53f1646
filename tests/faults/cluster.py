"""A Postgres with durability on that can be killed as a power button kills it: the head and every backend, at once, by SIGKILL.

The operating system lives on, so what the kernel had been given survives: that commits wait for the disk is asserted, not tested.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from custody.db.provision import provision
from devnet.ports import choose_port
from devnet.postgres import Postgres, create_cluster, delete_cluster
from devnet.processes import ManagedProcess, Watchdog
from tests.postgres import APP_PASSWORD

DATABASE = "custody"


class DurableCluster:
    """One server with one migrated database, started again as often as it was killed."""

    def __init__(self, server: Postgres, process: ManagedProcess) -> None:
        """Of a server that runs."""
        self.server = server
        self._process = process
        server.run_sql(f"CREATE DATABASE {DATABASE}")
        provision(self.admin_dsn, APP_PASSWORD)
        durable = server.run_sql(
            "SELECT string_agg(setting, ',') FROM pg_settings"
            " WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')"
        )
        if durable.strip() != "on,on,on":
            raise AssertionError(f"durability is off: {durable}")

    @property
    def admin_dsn(self) -> str:
        """How an administrator reaches the database."""
        return self.server.dsn(database=DATABASE)

    @property
    def app_dsn(self) -> str:
        """How the product reaches the database."""
        return self.server.dsn("custody_app", APP_PASSWORD, DATABASE)

    def kill(self) -> int:
        """SIGKILL to the head and all its children; how many died. The head is stopped first, so that it cannot react."""
        head = self._process.pid
        if head is None:
            raise AssertionError("the server does not run")
        os.kill(head, signal.SIGSTOP)
        family = [*_children(head), head]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        return len(family)

    def start(self) -> None:
        """Start it again and wait until it has recovered."""
        self.server.forget_lock()
        self._process.start()
        self._process.wait_ready()


def _children(head: int) -> list[int]:
    """Backends lead sessions of their own, so the head's process group does not name them."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [int(pid) for pid, parent in pairs if int(parent) == head]


@contextmanager
def durable_cluster() -> Iterator[DurableCluster]:
    """A running, migrated server with durability on; gone with all its data afterwards."""
    state = Path(tempfile.mkdtemp(prefix="custody-faults-"))
    watchdog = Watchdog()
    try:
        server = create_cluster(state, choose_port("postgres", None, set(), print), durable=True)
        process = ManagedProcess(server.spec(), state / "postgres.log", watchdog)
        try:
            process.start()
            process.wait_ready()
            yield DurableCluster(server, process)
        finally:
            process.stop()
    finally:
        watchdog.close()
        delete_cluster(state)
        shutil.rmtree(state)
