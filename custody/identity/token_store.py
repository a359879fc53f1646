"""SQL of access tokens, of the clients that sign for them, and of which signed requests were used."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.reader import Reader
from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import Client, Kind, Principal
from custody.identity.roles import CUSTOMER_ACTS, CUSTOMER_READS, permissions_of
from custody.identity.store import hash_secret
from custody.identity.tables import access_tokens, assertions, clients
from custody.kernel.ids import CustomerId, PrincipalId, TenantId


async def insert_token(
    uow: UnitOfWork,
    token_id: UUID,
    secret: str,
    *,
    kind: str,
    principal_id: PrincipalId,
    subject: str,
    grants: frozenset[str],
    customer_id: CustomerId | None,
    expires_at: datetime,
) -> None:
    """Keep a token's hash."""
    await uow.conn.execute(
        insert(access_tokens).values(
            tenant_id=uow.tenant,
            id=token_id,
            secret_sha256=hash_secret(secret),
            kind=kind,
            principal_id=principal_id,
            subject=subject,
            grants=sorted(grants),
            customer_id=customer_id,
            expires_at=expires_at,
        )
    )


async def find_token(reader: Reader, secret: str) -> Principal | None:
    """Whose token this is, if it is valid now. Crosses tenants through a function that answers only for an exact hash."""
    rows = await reader.fetch(
        None,
        "SELECT tenant_id, id, kind, principal_id, subject, grants, customer_id, expires_at FROM find_access_token($1)",
        hash_secret(secret),
    )
    if not rows:
        return None
    (row,) = rows
    grants = frozenset(row["grants"])
    customer = row["kind"] == "customer"
    return Principal(
        tenant=TenantId(row["tenant_id"]),
        id=PrincipalId(row["principal_id"]),
        subject=row["subject"],
        scopes=frozenset(),
        roles=frozenset() if customer else grants,
        permissions=CUSTOMER_READS | (grants & CUSTOMER_ACTS) if customer else permissions_of(grants),
        kind=Kind.CUSTOMER if customer else Kind.MACHINE,
        customer=CustomerId(row["customer_id"]) if customer else None,
        credential=row["id"],
        expires_at=row["expires_at"],
    )


async def revoke_tokens(uow: UnitOfWork, principal_id: PrincipalId) -> int:
    """End all tokens of a principal now. Returns how many still held."""
    rows = await uow.conn.execute(
        update(access_tokens)
        .where(
            access_tokens.c.tenant_id == uow.tenant,
            access_tokens.c.principal_id == principal_id,
            access_tokens.c.expires_at > func.clock_timestamp(),
            access_tokens.c.revoked_at.is_(None),
        )
        .values(revoked_at=func.clock_timestamp())
    )
    return int(rows.rowcount)


async def insert_client(uow: UnitOfWork, client: Client) -> None:
    """Write a client."""
    await uow.conn.execute(
        insert(clients).values(
            tenant_id=uow.tenant,
            id=client.id,
            subject=client.subject,
            roles=list(client.roles),
            keys=list(client.keys),
        )
    )


async def find_client(session: ReadSession, client_id: UUID) -> Client | None:
    """A client that holds, of whichever tenant, through a function that answers for an exact id only."""
    rows = await session.conn.execute(
        text(
            "SELECT tenant_id, id, subject, roles, keys, revoked_at, created_at FROM find_oauth_client(:id)"
        ),
        {"id": client_id},
    )
    row = rows.one_or_none()
    return None if row is None else _client(row)


async def load_client(session: ReadSession, client_id: PrincipalId) -> Client | None:
    """A client by id."""
    rows = await session.conn.execute(
        select(clients).where(clients.c.tenant_id == session.tenant, clients.c.id == client_id)
    )
    row = rows.one_or_none()
    return None if row is None else _client(row)


async def load_clients(session: ReadSession, after: UUID | None, limit: int) -> list[Client]:
    """Clients, oldest first, after one of them."""
    query = select(clients).where(clients.c.tenant_id == session.tenant)
    if after is not None:
        query = query.where(clients.c.id > after)
    return [_client(row) for row in await session.conn.execute(query.order_by(clients.c.id).limit(limit))]


async def revoke_client(uow: UnitOfWork, client_id: PrincipalId) -> bool:
    """Give a client no more tokens. False when it was ended before."""
    rows = await uow.conn.execute(
        update(clients)
        .where(clients.c.tenant_id == uow.tenant, clients.c.id == client_id, clients.c.revoked_at.is_(None))
        .values(revoked_at=func.clock_timestamp())
    )
    return rows.rowcount == 1


async def use_assertion(uow: UnitOfWork, client_id: PrincipalId, jti: str, expires_at: datetime) -> bool:
    """Write down that a signed request was used. False when it was used before."""
    rows = await uow.conn.execute(
        upsert(assertions)
        .values(tenant_id=uow.tenant, client_id=client_id, jti=jti, expires_at=expires_at)
        .on_conflict_do_nothing()
    )
    return rows.rowcount == 1


def _client(row: Row[Any]) -> Client:
    # Through the function the column comes as text; through the table as what it holds.
    keys = orjson.loads(row.keys) if isinstance(row.keys, str | bytes) else row.keys
    return Client(
        tenant=TenantId(row.tenant_id),
        id=PrincipalId(row.id),
        subject=row.subject,
        roles=tuple(row.roles),
        keys=tuple(keys),
        revoked_at=row.revoked_at,
        created_at=row.created_at,
    )
