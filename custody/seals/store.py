"""SQL of seals. Transaction numbers travel as text: the driver's type for them is no integer column's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import Row, insert, select, text

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.ids import TenantId
from custody.seals.model import Batch, Checkpoint, Seal, SealedBatch, TransferRow
from custody.seals.tables import ledger_checkpoints as checkpoints
from custody.seals.tables import ledger_sealed_batches as sealed_batches
from custody.seals.tables import ledger_seals as seals

_BATCH = "b.tenant_id, b.id, CAST(CAST(b.xid AS text) AS bigint) AS xid, b.transfers, b.root, b.booked_at"
_FROM = (
    " FROM ledger_batches b WHERE b.tenant_id = :tenant AND b.xid >= CAST(CAST(:from_xid AS text) AS xid8)"
)
# The watermark and the rows are of one statement, so of one snapshot: what this snapshot sees below its own xmin is all there
# will ever be below it.
_SEALABLE = text(
    f"SELECT {_BATCH}, CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS xmin"
    f"{_FROM} AND b.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY b.xid, b.id LIMIT :limit"
)
_XMIN = text("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint)")
_RANGE = text(
    f"SELECT {_BATCH}{_FROM} AND b.xid < CAST(CAST(:to_xid AS text) AS xid8) AND b.id > :after ORDER BY b.id LIMIT :limit"
)
_REST = text(f"SELECT {_BATCH}{_FROM} AND b.id > :after ORDER BY b.id LIMIT :limit")
_TRANSFERS = text(
    "SELECT t.* FROM ledger_transfers t"
    " WHERE t.tenant_id = :tenant AND t.batch_id = ANY(CAST(:batches AS bigint[])) ORDER BY t.batch_id, t.leaf"
)
_PLACE = text(
    "SELECT c.batch_id, c.leaf FROM ledger_commands c"
    " WHERE c.tenant_id = :tenant AND c.id = :id AND c.batch_id IS NOT NULL"
)
_ONE_BATCH = text(f"SELECT {_BATCH}{_FROM} AND b.id = :id")
_STRAY_TRANSFER = text(
    "SELECT t.id, t.batch_id FROM ledger_transfers t WHERE t.tenant_id = :tenant AND NOT EXISTS ("
    "SELECT FROM ledger_batches b WHERE b.tenant_id = t.tenant_id AND b.id = t.batch_id) ORDER BY t.id LIMIT 1"
)
_STRAY_SEALED = text(
    "SELECT s.batch_id FROM ledger_sealed_batches s WHERE s.tenant_id = :tenant AND NOT EXISTS ("
    "SELECT FROM ledger_batches b JOIN ledger_seals l ON l.tenant_id = b.tenant_id"
    " WHERE b.tenant_id = s.tenant_id AND b.id = s.batch_id AND l.sequence = s.sequence) ORDER BY s.batch_id LIMIT 1"
)
_STRAY_CHECKPOINT = text(
    "SELECT c.sequence FROM ledger_checkpoints c WHERE c.tenant_id = :tenant AND NOT EXISTS ("
    "SELECT FROM ledger_seals l WHERE l.tenant_id = c.tenant_id AND l.sequence = c.sequence) ORDER BY c.sequence LIMIT 1"
)
_STRAY_ANCHOR = text(
    "SELECT a.sequence FROM ledger_anchors a WHERE a.tenant_id = :tenant AND NOT EXISTS ("
    "SELECT FROM ledger_seals l WHERE l.tenant_id = a.tenant_id AND l.sequence = a.sequence AND l.hash = a.seal_hash)"
    " ORDER BY a.sequence LIMIT 1"
)
# Every counter of an account again from the transfers that name it, and from what it had when archived months ended.
_WRONG_ACCOUNT = text(
    """
SELECT a.id FROM ledger_accounts a LEFT JOIN (
  SELECT m.account, sum(m.dp) AS dp, sum(m.cp) AS cp, sum(m.dh) AS dh, sum(m.ch) AS ch, sum(m.n) AS entries FROM (
    SELECT debit_account AS account, posted AS dp, 0 AS cp, pending AS dh, 0 AS ch, 1 AS n FROM ledger_transfers
     WHERE tenant_id = :tenant
    UNION ALL
    SELECT credit_account, 0, posted, 0, pending, 1 FROM ledger_transfers WHERE tenant_id = :tenant
    UNION ALL
    (SELECT DISTINCT ON (account_id) account_id, debits_posted, credits_posted, debits_pending, credits_pending, version
       FROM ledger_openings WHERE tenant_id = :tenant ORDER BY account_id, month DESC)) AS m
  GROUP BY m.account) AS s ON s.account = a.id
 WHERE a.tenant_id = :tenant
   AND (a.debits_posted, a.credits_posted, a.debits_pending, a.credits_pending, a.version)
       IS DISTINCT FROM (coalesce(s.dp, 0), coalesce(s.cp, 0), coalesce(s.dh, 0), coalesce(s.ch, 0), coalesce(s.entries, 0))
 ORDER BY a.id LIMIT 1
"""
)


# Along an account's versions, without gaps, each entry knows the place of the one before it: what statements are read along.
_WRONG_PRIOR = text(
    """
SELECT x.transfer_id FROM (
  SELECT e.transfer_id, e.version, e.prior, lag(e.version) OVER w AS version_before,
         lag(e.batch_id << 20 | e.leaf) OVER w AS before
    FROM ledger_entries e WHERE e.tenant_id = :tenant WINDOW w AS (PARTITION BY e.account_id ORDER BY e.version)) AS x
 WHERE x.version <> x.version_before + 1 OR x.prior <> x.before
    OR (x.before IS NULL AND (x.version = 1) <> (x.prior = 0))
 ORDER BY x.transfer_id LIMIT 1
"""
)
_WRONG_HEAD = text(
    """
SELECT a.id FROM ledger_accounts a
  JOIN ledger_entries e ON e.tenant_id = a.tenant_id AND e.account_id = a.id AND e.version = a.version
 WHERE a.tenant_id = :tenant AND a.head <> e.batch_id << 20 | e.leaf ORDER BY a.id LIMIT 1
"""
)
_WRONG_PLACE = text(
    "SELECT t.id FROM ledger_transfers t LEFT JOIN ledger_commands c ON c.tenant_id = t.tenant_id AND c.id = t.id"
    " WHERE t.tenant_id = :tenant AND (c.batch_id, c.leaf, c.booked_at) IS DISTINCT FROM (t.batch_id, t.leaf, t.booked_at)"
    " ORDER BY t.id LIMIT 1"
)


async def load_last_seal(session: ReadSession) -> Seal | None:
    """The head of the chain."""
    rows = await session.conn.execute(
        select(seals).where(seals.c.tenant_id == session.tenant).order_by(seals.c.sequence.desc()).limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else _seal(row)


async def load_seals(session: ReadSession, after: int, limit: int) -> list[Seal]:
    """Seals above a number, in order."""
    rows = await session.conn.execute(
        select(seals)
        .where(seals.c.tenant_id == session.tenant, seals.c.sequence > after)
        .order_by(seals.c.sequence)
        .limit(limit)
    )
    return [_seal(row) for row in rows]


async def load_unsigned(session: ReadSession, limit: int) -> list[Seal]:
    """Seals above the newest signature, in order."""
    newest = await load_last_checkpoint(session)
    return await load_seals(session, 0 if newest is None else newest.sequence, limit)


async def load_last_checkpoint(session: ReadSession) -> Checkpoint | None:
    """The newest signature."""
    rows = await session.conn.execute(
        select(checkpoints)
        .where(checkpoints.c.tenant_id == session.tenant)
        .order_by(checkpoints.c.sequence.desc())
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else _checkpoint(row)


async def load_checkpoints(session: ReadSession, first: int, last: int) -> dict[int, Checkpoint]:
    """Signatures under the seals from `first` to `last`, by number."""
    rows = await session.conn.execute(
        select(checkpoints).where(
            checkpoints.c.tenant_id == session.tenant, checkpoints.c.sequence.between(first, last)
        )
    )
    return {row.sequence: _checkpoint(row) for row in rows}


async def load_key_ids(session: ReadSession) -> list[str]:
    """Ids of the keys that are said to have signed."""
    rows = await session.conn.execute(
        select(checkpoints.c.key_id).distinct().where(checkpoints.c.tenant_id == session.tenant)
    )
    return sorted(row.key_id for row in rows)


async def load_sealable(session: ReadSession, from_xid: int, limit: int) -> tuple[int, list[Batch]]:
    """The watermark, below which every transaction has ended, and the batches from `from_xid` up to it, by transaction."""
    rows = (
        await session.conn.execute(
            _SEALABLE, {"tenant": session.tenant, "from_xid": str(from_xid), "limit": limit}
        )
    ).all()
    if rows:
        return rows[0].xmin, [_batch(row) for row in rows]
    return (await session.conn.execute(_XMIN)).scalar_one(), []


async def load_range(
    session: ReadSession, from_xid: int, to_xid: int, *, after: int, limit: int
) -> list[Batch]:
    """Batches of the transactions in a range, in order of their numbers, above one of them."""
    rows = await session.conn.execute(
        _RANGE,
        {
            "tenant": session.tenant,
            "from_xid": str(from_xid),
            "to_xid": str(to_xid),
            "after": after,
            "limit": limit,
        },
    )
    return [_batch(row) for row in rows]


async def load_rest(session: ReadSession, from_xid: int, *, after: int, limit: int) -> list[Batch]:
    """Batches of the transactions from a number on, in order of their own numbers."""
    rows = await session.conn.execute(
        _REST, {"tenant": session.tenant, "from_xid": str(from_xid), "after": after, "limit": limit}
    )
    return [_batch(row) for row in rows]


async def load_transfers(session: ReadSession, batch_ids: Sequence[int]) -> dict[int, list[TransferRow]]:
    """The transfers of these batches by batch, in order of their leaves."""
    rows = await session.conn.execute(_TRANSFERS, {"tenant": session.tenant, "batches": list(batch_ids)})
    found: dict[int, list[TransferRow]] = {batch_id: [] for batch_id in batch_ids}
    for row in rows.mappings():
        found[row["batch_id"]].append(dict(row))
    return found


async def load_sealed(session: ReadSession, batch_ids: Sequence[int]) -> dict[int, SealedBatch]:
    """What was kept of these batches when they were sealed."""
    rows = await session.conn.execute(
        select(sealed_batches).where(
            sealed_batches.c.tenant_id == session.tenant, sealed_batches.c.batch_id.in_(batch_ids)
        )
    )
    return {
        row.batch_id: SealedBatch(
            tenant=TenantId(row.tenant_id),
            batch_id=row.batch_id,
            sequence=row.sequence,
            leaves=bytes(row.leaves),
        )
        for row in rows
    }


async def find_place(session: ReadSession, transfer_id: UUID) -> tuple[int, int] | None:
    """Batch and leaf of a transfer."""
    row = (await session.conn.execute(_PLACE, {"tenant": session.tenant, "id": transfer_id})).one_or_none()
    return None if row is None else (row.batch_id, row.leaf)


async def load_batch(session: ReadSession, batch_id: int) -> Batch | None:
    """One batch."""
    row = (
        await session.conn.execute(_ONE_BATCH, {"tenant": session.tenant, "from_xid": "0", "id": batch_id})
    ).one_or_none()
    return None if row is None else _batch(row)


async def find_stray(session: ReadSession) -> tuple[str, object, str] | None:
    """Table, row and fault of a row that no batch or seal leads to, or of an account that its transfers do not explain."""
    named = {"tenant": session.tenant}
    for statement, table, fault in (
        (_STRAY_TRANSFER, "ledger_transfers", "batch_id, there is no such batch"),
        (_STRAY_SEALED, "ledger_sealed_batches", "there is no such batch or seal"),
        (_STRAY_CHECKPOINT, "ledger_checkpoints", "there is no such seal"),
        (_STRAY_ANCHOR, "ledger_anchors", "there is no seal with this number and hash"),
        (_WRONG_ACCOUNT, "ledger_accounts", "its counters are not the sums of its transfers"),
        (_WRONG_PRIOR, "ledger_transfers", "it does not follow from the entry before it"),
        (_WRONG_HEAD, "ledger_accounts", "its last entry is another one"),
        (_WRONG_PLACE, "ledger_commands", "the transfer that it made lies elsewhere"),
    ):
        row = (await session.conn.execute(statement, named)).one_or_none()
        if row is not None:
            return table, row[0], fault
    return None


async def insert_seal(uow: UnitOfWork, seal: Seal, batches: Sequence[SealedBatch]) -> None:
    """Append a seal and the batches in it."""
    values = asdict(seal)
    values["tenant_id"] = values.pop("tenant")
    await uow.conn.execute(insert(seals).values(values))
    await uow.conn.execute(
        insert(sealed_batches),
        [
            {
                "tenant_id": one.tenant,
                "batch_id": one.batch_id,
                "sequence": one.sequence,
                "leaves": one.leaves,
            }
            for one in batches
        ],
    )


async def insert_checkpoint(uow: UnitOfWork, checkpoint: Checkpoint) -> None:
    """Append a signature."""
    values = asdict(checkpoint)
    values["tenant_id"] = values.pop("tenant")
    await uow.conn.execute(insert(checkpoints).values(values))


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        tenant=TenantId(row.tenant_id),
        id=row.id,
        xid=row.xid,
        transfers=row.transfers,
        root=bytes(row.root),
        booked_at=row.booked_at,
    )


def _seal(row: Row[Any]) -> Seal:
    return Seal(
        tenant=TenantId(row.tenant_id),
        sequence=row.sequence,
        from_batch=row.from_batch,
        to_batch=row.to_batch,
        from_xid=row.from_xid,
        to_xid=row.to_xid,
        batches=row.batches,
        root=bytes(row.root),
        previous=bytes(row.previous),
        hash=bytes(row.hash),
        sealed_at=row.sealed_at,
    )


def _checkpoint(row: Row[Any]) -> Checkpoint:
    return Checkpoint(
        tenant=TenantId(row.tenant_id),
        sequence=row.sequence,
        key_id=row.key_id,
        public_key=bytes(row.public_key),
        signature=bytes(row.signature),
    )
