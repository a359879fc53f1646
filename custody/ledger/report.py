"""The books as a bookkeeper reads them: every path of the chart with its sums, and each asset's total."""

from __future__ import annotations

from sqlalchemy import text

from custody.db.session import ReadSession
from custody.kernel.assetid import parse_asset_id
from custody.ledger.chart import KindSum, Report, build_report
from custody.ledger.model import AccountKind

_KIND_SUMS = text(
    "SELECT kind, asset, accounts, debits, credits FROM ledger_kind_sums WHERE tenant_id = :tenant"
)


async def report(session: ReadSession) -> Report:
    """The trial balance as a tree. Reads the balances that accounts carry, never history."""
    rows = await session.conn.execute(_KIND_SUMS, {"tenant": session.tenant})
    return build_report(
        KindSum(
            kind=AccountKind(row.kind),
            asset=parse_asset_id(row.asset),
            accounts=row.accounts,
            debits=int(row.debits),
            credits=int(row.credits),
        )
        for row in rows
    )
