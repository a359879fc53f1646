"""Record what was done, in the transaction that did it; read it back; check the chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, select

from custody.audit.chain import GENESIS, entry_hash
from custody.audit.model import AuditEntry
from custody.audit.tables import audit_entries as entries
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.errors import InvariantViolated


class AuditChainBroken(InvariantViolated):
    """An entry does not follow from the one before it."""

    code = "audit_chain_broken"
    public = "The audit log does not verify."


async def record(
    uow: UnitOfWork, actor: str, action: str, object_id: UUID, detail: Mapping[str, object]
) -> None:
    """Append one entry. Locks the tenant's chain until the transaction ends: call it late in a transaction."""
    await uow.lock(f"audit/{uow.tenant}")
    last = await uow.conn.execute(
        select(entries.c.sequence, entries.c.hash)
        .where(entries.c.tenant_id == uow.tenant)
        .order_by(entries.c.sequence.desc())
        .limit(1)
    )
    head = last.one_or_none()
    sequence, previous = (1, GENESIS) if head is None else (head.sequence + 1, head.hash)
    now = (await uow.conn.execute(select(func.clock_timestamp()))).scalar_one()
    values: dict[str, Any] = {
        "sequence": sequence,
        "occurred_at": now,
        "actor": actor,
        "action": action,
        "object_id": object_id,
        "detail": dict(detail),
    }
    await uow.conn.execute(
        insert(entries).values(tenant_id=uow.tenant, hash=entry_hash(previous, **values), **values)
    )


async def page(session: ReadSession, after: int, limit: int) -> list[AuditEntry]:
    """Entries after a sequence number, oldest first."""
    rows = await session.conn.execute(
        select(entries)
        .where(entries.c.tenant_id == session.tenant, entries.c.sequence > after)
        .order_by(entries.c.sequence)
        .limit(limit)
    )
    return [_entry(row) for row in rows]


async def verify(session: ReadSession, batch: int = 1000) -> int:
    """Re-derive the tenant's whole chain. Returns its length; raises AuditChainBroken at the first bad entry."""
    previous, length = GENESIS, 0
    while found := await page(session, length, batch):
        for entry in found:
            derived = entry_hash(
                previous,
                sequence=entry.sequence,
                occurred_at=entry.occurred_at,
                actor=entry.actor,
                action=entry.action,
                object_id=entry.object_id,
                detail=entry.detail,
            )
            if entry.sequence != length + 1 or derived != entry.hash:
                raise AuditChainBroken(sequence=entry.sequence)
            previous, length = entry.hash, entry.sequence
    return length


def _entry(row: Row[Any]) -> AuditEntry:
    return AuditEntry(
        sequence=row.sequence,
        occurred_at=row.occurred_at,
        actor=row.actor,
        action=row.action,
        object_id=row.object_id,
        detail=row.detail,
        hash=row.hash,
    )
