"""SQL of series and of how holdings stand. A series is read by probes of an index, never by scanning its history."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, or_, select, text

from custody.db.session import ReadSession
from custody.holdings.break_store import break_of
from custody.holdings.compare_store import comparison_of
from custody.holdings.model import HoldingBreak
from custody.holdings.series_model import HoldingCheck, SeriesPoint, Which
from custody.holdings.store import Key, is_key
from custody.holdings.tables import holding_breaks
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.ids import VaultId

# One row of a comparison with its time; `w` names the holding.
_TIMED = (
    "m.vault_id, m.asset, m.height, m.state_height, m.books, m.opening, m.chain_amount,"
    " coalesce((SELECT s.closed_at FROM holding_states s WHERE s.tenant_id = m.tenant_id AND s.vault_id = m.vault_id"
    " AND s.asset = m.asset AND s.height = m.height AND NOT is_replaced(s.tenant_id, s.chain, s.branch, s.height)"
    " ORDER BY s.branch DESC LIMIT 1), m.created_at) AS at"
)
_OF_HOLDING = (
    " FROM holding_comparisons m WHERE m.tenant_id = :tenant AND m.vault_id = :vault AND m.asset = :asset"
    " AND NOT is_replaced(m.tenant_id, CAST(:chain AS text), m.branch, m.height)"
)
_NEWEST = " ORDER BY m.height DESC, m.branch DESC, m.revision DESC"
_ALL = text(
    f"SELECT DISTINCT ON (m.height) {_TIMED}{_OF_HOLDING} AND m.height > :low AND m.height <= :high{_NEWEST} LIMIT :limit"
)
_LAST = f"SELECT {_TIMED}{_OF_HOLDING} AND m.height <= w.height{_NEWEST} LIMIT 1"
_HEIGHTS = "WITH w AS (SELECT unnest(CAST(:heights AS bigint[])) AS height)"
_EACH_ONCE = " SELECT DISTINCT ON (p.height) p.* FROM w CROSS JOIN LATERAL"
_AT = text(f"{_HEIGHTS}{_EACH_ONCE} ({_LAST}) AS p ORDER BY p.height")
_FIRST = text(f"SELECT m.height{_OF_HOLDING} ORDER BY m.height LIMIT 1")
_CHECKS = (
    "SELECT h.vault_id, h.asset, h.chain, v.account, v.purpose, c.height AS compared_height, c.state_height, c.books, c.opening,"
    " c.chain_amount, b.id AS break_id, coalesce(r.threshold, 0) AS threshold"
    " FROM holdings h JOIN vaults v ON v.tenant_id = h.tenant_id AND v.id = h.vault_id"
    " LEFT JOIN holding_breaks b ON b.tenant_id = h.tenant_id AND b.vault_id = h.vault_id AND b.asset = h.asset"
    " AND b.state = 'open'"
    " LEFT JOIN LATERAL (SELECT * FROM holding_comparisons m WHERE m.tenant_id = h.tenant_id AND m.vault_id = h.vault_id"
    " AND m.asset = h.asset AND NOT is_replaced(m.tenant_id, h.chain, m.branch, m.height)"
    " ORDER BY m.height DESC, m.branch DESC, m.revision DESC LIMIT 1) AS c ON true"
    " LEFT JOIN LATERAL (SELECT s.threshold FROM holding_stop_rules s WHERE s.tenant_id = h.tenant_id AND s.asset = h.asset"
    " ORDER BY s.version DESC LIMIT 1) AS r ON true"
    " WHERE h.tenant_id = :tenant AND h.opening IS NOT NULL"
    " AND (CAST(:vault AS uuid) IS NULL OR (h.vault_id, h.asset) > (CAST(:vault AS uuid), CAST(:asset AS text)))"
)
_WHICH: dict[Which, str] = {
    "all": "",
    "standing": " AND (b.id IS NOT NULL OR h.vault_id IN (SELECT n.id FROM vaults n WHERE n.tenant_id = :tenant"
    " AND n.purpose <> 'deposit'))",
    "broken": " AND b.id IS NOT NULL",
}


async def load_all(session: ReadSession, key: Key, low: int, high: int, limit: int) -> list[SeriesPoint]:
    """Comparisons above one height and up to another, newest first."""
    rows = await session.conn.execute(
        _ALL, {**_named(session, key), "low": low, "high": high, "limit": limit}
    )
    return [_point(row) for row in rows]


async def load_at(session: ReadSession, key: Key, heights: list[int]) -> list[SeriesPoint]:
    """The comparisons that held at these heights, lowest first; each once."""
    rows = await session.conn.execute(_AT, {**_named(session, key), "heights": heights})
    return [_point(row) for row in rows]


async def load_first_height(session: ReadSession, key: Key) -> int | None:
    """Where the series begins."""
    rows = await session.conn.execute(_FIRST, _named(session, key))
    row = rows.one_or_none()
    return None if row is None else int(row.height)


async def load_breaks_between(
    session: ReadSession, key: Key, low: int, high: int, limit: int
) -> list[HoldingBreak]:
    """Breaks that were open somewhere between two heights, newest first."""
    breaks = holding_breaks
    rows = await session.conn.execute(
        select(breaks)
        .where(
            *is_key(breaks, session, key),
            breaks.c.height <= high,
            or_(breaks.c.closed_height.is_(None), func.coalesce(breaks.c.closed_height, 0) >= low),
        )
        .order_by(breaks.c.sequence.desc())
        .limit(limit)
    )
    return [break_of(row) for row in rows]


async def load_checks(
    session: ReadSession, which: Which, after: Key | None, limit: int
) -> list[tuple[HoldingCheck, UUID | None]]:
    """How holdings stand, in the order of their keys, each with its open break's id."""
    rows = await session.conn.execute(
        text(f"{_CHECKS}{_WHICH[which]} ORDER BY h.vault_id, h.asset LIMIT :limit"),
        {
            "tenant": session.tenant,
            "vault": None if after is None else after[0],
            "asset": None if after is None else after[1].text,
            "limit": limit,
        },
    )
    return [(_check(row), row.break_id) for row in rows]


def _named(session: ReadSession, key: Key) -> dict[str, object]:
    return {"tenant": session.tenant, "vault": key[0], "asset": key[1].text, "chain": key[1].chain}


def _point(row: Row[Any]) -> SeriesPoint:
    return SeriesPoint(compared=comparison_of(row), at=row.at)


def _check(row: Row[Any]) -> HoldingCheck:
    compared = None if row.compared_height is None else comparison_of(row, row.compared_height)
    return HoldingCheck(
        vault_id=VaultId(row.vault_id),
        account=row.account,
        purpose=row.purpose,
        chain=ChainId(row.chain),
        asset=parse_asset_id(row.asset),
        last=compared,
        found=None,
        threshold=int(row.threshold),
    )
