"""SQL of tenants and API keys."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.reader import Reader
from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import ApiKey, Principal, Tenant
from custody.identity.roles import permissions_of
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
    uow: UnitOfWork,
    key_id: PrincipalId,
    secret: str,
    subject: str,
    scopes: frozenset[str],
    *,
    roles: frozenset[str] = frozenset(),
    expires_at: datetime | None = None,
    principal_id: PrincipalId | None = None,
) -> None:
    """Keep the key's hash."""
    await uow.conn.execute(
        insert(api_keys).values(
            tenant_id=uow.tenant,
            id=key_id,
            secret_sha256=hash_secret(secret),
            subject=subject,
            scopes=sorted(scopes),
            roles=sorted(roles),
            expires_at=expires_at,
            principal_id=principal_id or key_id,
        )
    )


async def find_principal(reader: Reader, secret: str) -> Principal | None:
    """Whose key this is, if it is valid now. Crosses tenants through a function that answers only for an exact hash."""
    rows = await reader.fetch(
        None,
        "SELECT tenant_id, id, principal_id, subject, scopes, roles, expires_at FROM find_api_key($1)",
        hash_secret(secret),
    )
    if not rows:
        return None
    (row,) = rows
    return Principal(
        tenant=TenantId(row["tenant_id"]),
        id=PrincipalId(row["principal_id"]),
        subject=row["subject"],
        scopes=frozenset(row["scopes"]),
        roles=frozenset(row["roles"]),
        permissions=permissions_of(row["roles"], row["scopes"]),
        credential=row["id"],
        expires_at=row["expires_at"],
    )


async def load_key(session: ReadSession, key_id: PrincipalId) -> ApiKey | None:
    """A key by id."""
    rows = await session.conn.execute(
        select(api_keys).where(api_keys.c.tenant_id == session.tenant, api_keys.c.id == key_id)
    )
    row = rows.one_or_none()
    return None if row is None else _key(row)


async def load_keys(session: ReadSession, after: UUID | None, limit: int) -> list[ApiKey]:
    """Keys, oldest first, after one of them."""
    query = select(api_keys).where(api_keys.c.tenant_id == session.tenant)
    if after is not None:
        query = query.where(api_keys.c.id > after)
    return [_key(row) for row in await session.conn.execute(query.order_by(api_keys.c.id).limit(limit))]


async def expire_key(uow: UnitOfWork, key_id: PrincipalId, at: datetime) -> None:
    """Let a key end at a moment, unless it ends sooner."""
    await uow.conn.execute(
        update(api_keys)
        .where(
            api_keys.c.tenant_id == uow.tenant,
            api_keys.c.id == key_id,
            or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > at),
        )
        .values(expires_at=at)
    )


async def revoke_key(uow: UnitOfWork, key_id: PrincipalId) -> bool:
    """End a key now. False when it was ended before."""
    rows = await uow.conn.execute(
        update(api_keys)
        .where(api_keys.c.tenant_id == uow.tenant, api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=func.clock_timestamp())
    )
    return rows.rowcount == 1


async def mark_used(uow: UnitOfWork, key_ids: Collection[UUID], at: datetime) -> None:
    """Write down when keys were seen."""
    await uow.conn.execute(
        update(api_keys)
        .where(
            api_keys.c.tenant_id == uow.tenant,
            api_keys.c.id.in_(list(key_ids)),
            or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < at),
        )
        .values(last_used_at=at)
    )


async def prune(uow: UnitOfWork) -> int:
    """Let go what expired more than a day ago, through a function that deletes nothing else. Returns how many rows went."""
    return int((await uow.conn.execute(text("SELECT prune_credentials()"))).scalar_one())


def hash_secret(secret: str) -> bytes:
    """SHA-256: the secret has 256 random bits, so that a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).digest()


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=PrincipalId(row.id),
        principal_id=PrincipalId(row.principal_id or row.id),
        subject=row.subject,
        scopes=tuple(row.scopes),
        roles=tuple(row.roles),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
