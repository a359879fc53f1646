"""Partitions of the months to come. What is booked in a month without one lands in the default partition and stays there."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from custody.db.session import UnitOfWork
from custody.ledger.errors import LedgerBusy

AHEAD = timedelta(days=100)
"""How far ahead: three months at least, so that nobody has to hurry when the worker stands still."""
_LOCK_NOT_AVAILABLE = "55P03"
# A new partition locks the whole history for a moment. Behind a long reader it would wait, and every writer behind it.
_PATIENCE = text("SET LOCAL lock_timeout = '2s'")
_PREPARE = text("SELECT ledger_prepare_partitions(CAST(:until AS date))")


async def prepare(uow: UnitOfWork, now: datetime) -> int:
    """Make the partitions that are missing; how many. Idempotent. Raises LedgerBusy when readers do not let it for now."""
    try:
        await uow.conn.execute(_PATIENCE)
        return int((await uow.conn.execute(_PREPARE, {"until": (now + AHEAD).date()})).scalar_one())
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            raise LedgerBusy from error
        raise
