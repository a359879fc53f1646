"""What an object's story looks like from outside the code: its events and audit entries, in order."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from custody.audit import service as audit
from custody.db.session import Database
from custody.events.tables import outbox
from custody.kernel.ids import TenantId


async def events_of(database: Database, tenant: TenantId, object_id: UUID) -> list[str]:
    """Names of an object's events, oldest first."""
    async with database.read(tenant) as session:
        rows = await session.conn.execute(
            select(outbox.c.type).where(outbox.c.object_id == object_id).order_by(outbox.c.sequence)
        )
        return [row.type for row in rows]


async def actions_on(database: Database, tenant: TenantId, object_id: UUID) -> list[str]:
    """Audited actions on an object, oldest first. Raises AuditChainBroken when the tenant's chain does not verify."""
    async with database.read(tenant) as session:
        await audit.verify(session)
        return [entry.action for entry in await audit.page(session, 0, 1000) if entry.object_id == object_id]
