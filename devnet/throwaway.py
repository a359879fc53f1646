"""A Postgres that lives as long as a `with` block: for tests and benches."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devnet.ports import choose_port
from devnet.postgres import Postgres, create_cluster, delete_cluster
from devnet.processes import ManagedProcess, Watchdog


@contextmanager
def throwaway_postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """A running server with empty data, gone with all its data afterwards. `durable` makes commits wait for the disk."""
    state = Path(tempfile.mkdtemp(prefix="custody-throwaway-"))
    watchdog = Watchdog()
    try:
        cluster = create_cluster(state, choose_port("postgres", None, set(), print), durable=durable)
        process = ManagedProcess(cluster.spec(), state / "postgres.log", watchdog)
        try:
            process.start()
            process.wait_ready()
            yield cluster
        finally:
            process.stop()
    finally:
        watchdog.close()
        delete_cluster(state)
        shutil.rmtree(state)
