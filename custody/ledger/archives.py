"""Where what the ledger still holds begins: questions about what lies before are refused, never answered in part.

Months are archived by `seals.archiving`. An account's opening is what it had when its last archived month ended.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import text

from custody.db.session import ReadSession
from custody.ledger.errors import HistoryArchived

_UNTIL = text(
    "SELECT max(until) AS booked, max(dated_to) AS dated FROM ledger_archives WHERE tenant_id = :tenant"
)
_OPENING = text("SELECT version FROM ledger_opening(:tenant, :account)")


async def demand_moment(session: ReadSession, at: datetime, *, dated: bool = False) -> None:
    """Raises HistoryArchived when entries booked before a moment, or with `dated` taking effect after it, are archived."""
    row = (await session.conn.execute(_UNTIL, {"tenant": session.tenant})).one()
    bounds = [bound for bound in (row.booked, row.dated if dated else None) if bound is not None]
    if bounds and at < max(bounds):
        raise HistoryArchived(until=max(bounds).isoformat())


async def demand_version(session: ReadSession, account_id: UUID, after_version: int) -> int:
    """The version of the account's last archived entry, 0 for none. Raises HistoryArchived when the entry after this version is
    archived."""
    found = await session.conn.execute(_OPENING, {"tenant": session.tenant, "account": account_id})
    archived = found.scalar_one_or_none() or 0
    if after_version < archived:
        raise HistoryArchived(first_version=archived + 1)
    return int(archived)
