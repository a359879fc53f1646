"""SQL of a tenant's own roles: an append-only history, of which the last version is in force."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, insert, select, union_all
from sqlalchemy.dialects.postgresql import distinct_on

from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import OwnRole
from custody.identity.tables import api_keys, clients, members, own_roles


async def insert_role(
    uow: UnitOfWork,
    role_id: UUID,
    version: int,
    *,
    name: str,
    permissions: frozenset[str],
    actor: str,
    note: str,
) -> OwnRole:
    """Write a version; without permissions it is the role's retirement. One that does not follow raises IntegrityError."""
    rows = await uow.conn.execute(
        insert(own_roles)
        .values(
            tenant_id=uow.tenant,
            id=role_id,
            version=version,
            name=name,
            permissions=sorted(permissions),
            retired=not permissions,
            actor=actor,
            note=note,
        )
        .returning(own_roles)
    )
    return _role(rows.one())


async def load_in_force(session: ReadSession, names: Collection[str]) -> dict[str, frozenset[str]]:
    """What those of these roles allow that there are and that are not retired."""
    rows = await session.conn.execute(_last(session).where(own_roles.c.name.in_(names)))
    return {row.name: frozenset(row.permissions) for row in rows if not row.retired}


async def load_roles(session: ReadSession) -> list[OwnRole]:
    """The last version of each role, by name."""
    return [_role(row) for row in await session.conn.execute(_last(session))]


async def load_versions(session: ReadSession, role_id: UUID, limit: int) -> list[OwnRole]:
    """A role's versions, newest first."""
    rows = await session.conn.execute(
        select(own_roles)
        .where(own_roles.c.tenant_id == session.tenant, own_roles.c.id == role_id)
        .order_by(own_roles.c.version.desc())
        .limit(limit)
    )
    return [_role(row) for row in rows]


async def is_given(session: ReadSession, subject: str, name: str) -> bool:
    """Whether this person or machine was given the role, as a member or with a key or client that is not revoked."""
    given = [
        select(table.c.id).where(
            table.c.tenant_id == session.tenant,
            table.c.subject == subject,
            table.c.roles.any_() == name,
            *([] if table is members else [table.c.revoked_at.is_(None)]),
        )
        for table in (members, api_keys, clients)
    ]
    return (await session.conn.execute(union_all(*given).limit(1))).first() is not None


async def count_roles(session: ReadSession) -> int:
    """How many names the tenant has used."""
    rows = await session.conn.execute(
        select(func.count()).where(own_roles.c.tenant_id == session.tenant, own_roles.c.version == 1)
    )
    return int(rows.scalar_one())


def _last(session: ReadSession) -> Select[Any]:
    return (
        select(own_roles)
        .ext(distinct_on(own_roles.c.name))
        .where(own_roles.c.tenant_id == session.tenant)
        .order_by(own_roles.c.name, own_roles.c.version.desc())
    )


def _role(row: Row[Any]) -> OwnRole:
    return OwnRole(
        id=row.id,
        name=row.name,
        version=row.version,
        permissions=frozenset(row.permissions),
        retired=row.retired,
        actor=row.actor,
        note=row.note,
        created_at=row.created_at,
    )
