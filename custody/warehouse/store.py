"""SQL of the export. Snapshots and transaction numbers travel as text: the driver has no types of its own for them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, text

from custody.db.session import ReadSession
from custody.warehouse.model import BatchRef, Page, Wave

# Row and snapshot are of one statement: what the snapshot shows is what any later statement finds in it.
_SNAPSHOT = text(
    "SELECT CAST(pg_current_snapshot() AS text) AS shown, pg_is_in_recovery() AS standby,"
    " CAST(pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(coalesce(CAST(CAST(:seen AS text) AS pg_snapshot),"
    " pg_current_snapshot())) AS boolean) AS behind"
)
_SOURCE = text("SELECT system_identifier || '/' || current_database() AS name FROM pg_control_system()")
_WAVE = (
    " FROM ledger_batches b WHERE b.tenant_id = :tenant AND b.id > :after"
    " AND (CAST(:seen AS text) IS NULL OR NOT pg_visible_in_snapshot(b.xid, CAST(CAST(:seen AS text) AS pg_snapshot)))"
    " AND pg_visible_in_snapshot(b.xid, CAST(CAST(:upto AS text) AS pg_snapshot))"
)
# By transaction, through its index: a wave is found without looking at what was exported before.
_SURVEY = text(
    f"SELECT count(*) AS batches, coalesce(sum(b.transfers), 0) AS transfers, coalesce(min(b.id), 0) AS first{_WAVE}"
    " AND b.xid >= coalesce(pg_snapshot_xmin(CAST(CAST(:seen AS text) AS pg_snapshot)), CAST('0' AS xid8))"
)
# By number, from where the wave is: every page reads on where the last one ended.
_PAGE = text(f"SELECT b.id, b.transfers, b.root, b.booked_at{_WAVE} ORDER BY b.id LIMIT :limit")
# The times of the batches tell the planner which partitions to look into: a transfer has its batch's.
_ROWS = text(
    """
SELECT t.*, s.id AS asset, s.decimals, d.kind AS debit_kind, d.owner AS debit_owner, d.normal_side AS debit_normal_side,
       c.kind AS credit_kind, c.owner AS credit_owner, c.normal_side AS credit_normal_side
  FROM ledger_transfers t
  JOIN ledger_accounts d ON d.tenant_id = t.tenant_id AND d.id = t.debit_account
  JOIN ledger_accounts c ON c.tenant_id = t.tenant_id AND c.id = t.credit_account
  JOIN assets s ON s.number = d.asset_id
 WHERE t.tenant_id = :tenant AND t.batch_id = ANY(CAST(:batches AS bigint[])) AND t.booked_at BETWEEN :first AND :last
 ORDER BY t.batch_id, t.leaf
"""
)
_ROOT = text("SELECT root FROM ledger_batches WHERE tenant_id = :tenant AND id = :id")


async def load_snapshot(session: ReadSession, seen: str | None) -> tuple[str, bool, bool]:
    """What the database shows now; whether it is a standby; whether it counts transactions from below what was seen."""
    row = (await session.conn.execute(_SNAPSHOT, {"seen": seen})).one()
    return row.shown, row.standby, row.behind


async def load_source(session: ReadSession) -> str:
    """Which database this is."""
    return str((await session.conn.execute(_SOURCE)).scalar_one())


async def load_wave(session: ReadSession, *, seen: str | None, upto: str, after: int) -> Wave:
    """What is left of a wave above a batch."""
    named = {"tenant": session.tenant, "seen": seen, "upto": upto, "after": after}
    row = (await session.conn.execute(_SURVEY, named)).one()
    return Wave(
        seen=seen,
        upto=upto,
        after=max(after, row.first - 1),
        batches=row.batches,
        transfers=int(row.transfers),
    )


async def load_page(
    session: ReadSession, wave: Wave, *, after: int, batches_max: int, transfers_max: int
) -> Page:
    """The wave's next batches, at least one and then as many as stay within both limits, with their transfers."""
    rows = await session.conn.execute(
        _PAGE,
        {
            "tenant": session.tenant,
            "seen": wave.seen,
            "upto": wave.upto,
            "after": after,
            "limit": batches_max,
        },
    )
    taken: list[Row[Any]] = []
    transfers = 0
    for row in rows:
        if taken and transfers + row.transfers > transfers_max:
            break
        taken.append(row)
        transfers += row.transfers
    if not taken:
        return Page(batches=(), rows=())
    moments = [row.booked_at for row in taken]
    found = await session.conn.execute(
        _ROWS,
        {
            "tenant": session.tenant,
            "batches": [row.id for row in taken],
            "first": min(moments),
            "last": max(moments),
        },
    )
    return Page(
        batches=tuple(
            BatchRef(id=row.id, transfers=row.transfers, root=bytes(row.root), booked_at=row.booked_at)
            for row in taken
        ),
        rows=tuple(dict(row) for row in found.mappings()),
    )


async def load_root(session: ReadSession, batch_id: int) -> bytes | None:
    """The root of a batch, if it is there."""
    root = (
        await session.conn.execute(_ROOT, {"tenant": session.tenant, "id": batch_id})
    ).scalar_one_or_none()
    return None if root is None else bytes(root)
