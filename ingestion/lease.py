"""One worker per chain, one process per backfill: a session-level advisory lock of Postgres on a connection of its own.

The lock spares two workers the work; the fence is what keeps the slower of them from writing.
"""

from __future__ import annotations

import os
import socket
from uuid import UUID

from custody.db import lease
from custody.db.session import Database
from custody.kernel.assetid import ChainId


class Lease(lease.Lease):
    """The right to follow one chain, or to carry out one backfill of it, held as long as the connection lives."""

    def __init__(self, db: Database, chain: ChainId, backfill: UUID | None = None) -> None:
        """Nothing is asked of the database yet."""
        what = chain if backfill is None else f"{chain}/{backfill}"
        super().__init__(db, f"ingestion/{what}")


def this_process() -> str:
    """How a holder is shown to operators: host and process id."""
    return f"{socket.gethostname()}/{os.getpid()}"
