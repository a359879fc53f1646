"""SQL of identity."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.reader import Reader
from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import Principal, Tenant
from custody.identity.tables import api_keys, tenants
from custody.kernel.ids import PrincipalId, TenantId


async def insert_tenant(uow: UnitOfWork, name: str) -> TenantId:
    """The tenant of this name, written if new."""
    await uow.conn.execute(upsert(tenants).values(name=name).on_conflict_do_nothing())
    found = await uow.conn.execute(select(tenants.c.id).where(tenants.c.name == name))
    return TenantId(found.scalar_one())


async def load_tenants(session: ReadSession) -> Sequence[Tenant]:
    """All tenants by id."""
    rows = await session.conn.execute(select(tenants.c.id, tenants.c.name).order_by(tenants.c.id))
    return [Tenant(id=TenantId(row.id), name=row.name) for row in rows]


async def insert_key(
    uow: UnitOfWork, key_id: PrincipalId, secret: str, subject: str, scopes: frozenset[str]
) -> None:
    """Keep the key's hash."""
    await uow.conn.execute(
        insert(api_keys).values(
            tenant_id=uow.tenant,
            id=key_id,
            secret_sha256=hash_secret(secret),
            subject=subject,
            scopes=sorted(scopes),
        )
    )


async def find_principal(reader: Reader, secret: str) -> Principal | None:
    """Whose key this is, if it is valid now. Crosses tenants through a function that answers only for an exact hash."""
    rows = await reader.fetch(
        None, "SELECT tenant_id, id, subject, scopes FROM find_api_key($1)", hash_secret(secret)
    )
    if not rows:
        return None
    (row,) = rows
    return Principal(
        tenant=TenantId(row["tenant_id"]),
        id=PrincipalId(row["id"]),
        subject=row["subject"],
        scopes=frozenset(row["scopes"]),
    )


def hash_secret(secret: str) -> bytes:
    """SHA-256: the secret has 256 random bits, so that a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).digest()
