"""Record what was done, in the transaction that did it; read it back; check the chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, select, text

from custody.audit.chain import GENESIS, entry_hash
from custody.audit.model import AuditEntry
from custody.audit.tables import audit_entries as entries
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import TenantId

_HEAD = text(
    "SELECT clock_timestamp() AS now, head.sequence, head.hash FROM (VALUES (1)) AS one LEFT JOIN LATERAL"
    " (SELECT sequence, hash FROM audit_entries WHERE tenant_id = :tenant ORDER BY sequence DESC LIMIT 1) AS head ON true"
)
_APPEND = text(
    "INSERT INTO audit_entries (tenant_id, sequence, occurred_at, actor, action, object_id, detail, hash)"
    " SELECT :tenant, CAST(:last AS bigint) + place, CAST(:now AS timestamptz), actor, action, object_id, CAST(detail AS jsonb),"
    " hash FROM unnest(CAST(:actors AS text[]), CAST(:actions AS text[]), CAST(:objects AS uuid[]), CAST(:details AS text[]),"
    " CAST(:hashes AS bytea[])) WITH ORDINALITY AS told(actor, action, object_id, detail, hash, place) ORDER BY place"
)


class AuditChainBroken(InvariantViolated):
    """An entry does not follow from the one before it."""

    code = "audit_chain_broken"
    public = "The audit log does not verify."


async def record(
    uow: UnitOfWork, actor: str, action: str, object_id: UUID, detail: Mapping[str, object]
) -> None:
    """Append one entry when the transaction commits, after those recorded before it. Takes no lock until then."""
    uow.gather(_append).append(
        _Note(tenant=uow.tenant, actor=actor, action=action, object_id=object_id, detail=dict(detail))
    )


async def page(
    session: ReadSession,
    after: int | None,
    limit: int,
    *,
    object_id: UUID | None = None,
    newest_first: bool = False,
) -> list[AuditEntry]:
    """Entries behind a sequence number, if any, oldest first or the reverse; of one object, or of all."""
    place = entries.c.sequence
    query = select(entries).where(entries.c.tenant_id == session.tenant)
    if object_id is not None:
        query = query.where(entries.c.object_id == object_id)
    if after is not None:
        query = query.where(place < after if newest_first else place > after)
    rows = await session.conn.execute(query.order_by(place.desc() if newest_first else place).limit(limit))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    """An entry that has no place in its chain yet."""

    tenant: TenantId
    actor: str
    action: str
    object_id: UUID
    detail: dict[str, object]


async def _append(uow: UnitOfWork, notes: list[_Note]) -> None:
    """Link what the transaction did to each tenant's chain, locking its head until the commit; tenants by id."""
    for tenant in sorted({note.tenant for note in notes}):
        if tenant != uow.tenant:
            await uow.act_for(tenant)
        await _append_for(uow, [note for note in notes if note.tenant == tenant])


async def _append_for(uow: UnitOfWork, notes: list[_Note]) -> None:
    await uow.lock(f"audit/{uow.tenant}")
    head = (await uow.conn.execute(_HEAD, {"tenant": uow.tenant})).one()
    sequence, previous = (0, GENESIS) if head.sequence is None else (head.sequence, head.hash)
    hashes = []
    for place, note in enumerate(notes, sequence + 1):
        previous = entry_hash(
            previous,
            sequence=place,
            occurred_at=head.now,
            actor=note.actor,
            action=note.action,
            object_id=note.object_id,
            detail=note.detail,
        )
        hashes.append(previous)
    await uow.conn.execute(
        _APPEND,
        {
            "tenant": uow.tenant,
            "last": sequence,
            "now": head.now,
            "actors": [note.actor for note in notes],
            "actions": [note.action for note in notes],
            "objects": [note.object_id for note in notes],
            "details": [orjson.dumps(note.detail).decode() for note in notes],
            "hashes": hashes,
        },
    )


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
