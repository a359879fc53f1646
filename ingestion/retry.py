"""Whether a failure may pass by itself: the one rule for the live loop, for backfills and for reports."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from custody.kernel.errors import Unavailable

_RETRYABLE_SQLSTATES = ("08", "40", "53", "55", "57")
"""Connection, rollback (deadlock), resources, lock not available, operator intervention. Source: PostgreSQL appendix A."""


def may_retry(error: Exception) -> bool:
    """Whether trying again can help: a node or a connection is away, or two transactions met."""
    if isinstance(error, DBAPIError):
        state = str(getattr(error.orig, "sqlstate", None) or "")
        return error.connection_invalidated or state.startswith(_RETRYABLE_SQLSTATES)
    return isinstance(error, Unavailable | OSError)
