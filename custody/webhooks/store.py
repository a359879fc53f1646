"""SQL of endpoints and their secrets. Every statement names the tenant, and every change of state is guarded."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, func, insert, or_, select, update

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.errors import InvariantViolated
from custody.webhooks.model import Endpoint, Reason
from custody.webhooks.tables import webhook_endpoints as endpoints
from custody.webhooks.tables import webhook_secrets as secrets
from custody.webhooks.transitions import WEBHOOK_ENDPOINTS


async def insert_endpoint(
    uow: UnitOfWork, endpoint_id: UUID, *, url: str, description: str, types: tuple[str, ...]
) -> Endpoint:
    """A new endpoint."""
    rows = await uow.conn.execute(
        insert(endpoints)
        .values(
            tenant_id=uow.tenant,
            id=endpoint_id,
            url=url,
            description=description,
            types=list(types),
            state=WEBHOOK_ENDPOINTS.initial,
            reason=Reason.ON,
        )
        .returning(endpoints)
    )
    return _endpoint(rows.one())


async def load_endpoint(
    session: ReadSession, endpoint_id: UUID, *, lock: bool = False, skip: bool = False
) -> Endpoint | None:
    """One endpoint; locked until the transaction ends when `lock`, and passed over when somebody holds it and `skip`."""
    query = select(endpoints).where(endpoints.c.tenant_id == session.tenant, endpoints.c.id == endpoint_id)
    rows = await session.conn.execute(query.with_for_update(skip_locked=skip) if lock else query)
    row = rows.one_or_none()
    return None if row is None else _endpoint(row)


async def load_endpoints(session: ReadSession, after: UUID | None, limit: int) -> list[Endpoint]:
    """A page of the tenant's endpoints, oldest first, deleted ones too."""
    query = select(endpoints).where(endpoints.c.tenant_id == session.tenant)
    if after is not None:
        query = query.where(endpoints.c.id > after)
    rows = await session.conn.execute(query.order_by(endpoints.c.id).limit(limit))
    return [_endpoint(row) for row in rows]


async def hold_active(uow: UnitOfWork) -> list[Endpoint]:
    """The endpoints that are sent events now, and stay so until the transaction ends."""
    rows = await uow.conn.execute(
        select(endpoints)
        .where(endpoints.c.tenant_id == uow.tenant, endpoints.c.state == WEBHOOK_ENDPOINTS.initial)
        .order_by(endpoints.c.id)
        .with_for_update(read=True)
    )
    return [_endpoint(row) for row in rows]


async def count_kept(session: ReadSession) -> int:
    """How many endpoints the tenant has, without deleted ones."""
    rows = await session.conn.execute(
        select(func.count())
        .select_from(endpoints)
        .where(endpoints.c.tenant_id == session.tenant, endpoints.c.state.not_in(WEBHOOK_ENDPOINTS.terminal))
    )
    return int(rows.scalar_one())


async def change_endpoint(uow: UnitOfWork, endpoint: Endpoint, **values: Any) -> Endpoint:
    """Write other values of a locked endpoint."""
    rows = await uow.conn.execute(
        update(endpoints)
        .where(endpoints.c.tenant_id == uow.tenant, endpoints.c.id == endpoint.id)
        .values(changed_at=func.clock_timestamp(), **values)
        .returning(endpoints)
    )
    return _endpoint(rows.one())


async def move_endpoint(uow: UnitOfWork, endpoint: Endpoint, event: str, reason: Reason) -> Endpoint:
    """Carry out one transition of a locked endpoint. Raises IllegalTransition."""
    target = WEBHOOK_ENDPOINTS.target(endpoint.state, event)
    rows = await uow.conn.execute(
        update(endpoints)
        .where(
            endpoints.c.tenant_id == uow.tenant,
            endpoints.c.id == endpoint.id,
            endpoints.c.state.in_(WEBHOOK_ENDPOINTS.sources(event)),
        )
        .values(
            state=target, reason=reason, failures=0, circuit_until=None, changed_at=func.clock_timestamp()
        )
        .returning(endpoints)
    )
    row = rows.one_or_none()
    if row is None:
        raise InvariantViolated("a locked endpoint changed its state", endpoint=endpoint.id, event=event)
    return _endpoint(row)


async def note_result(
    uow: UnitOfWork, endpoint_id: UUID, *, delivered: bool, circuit_until: datetime | None, failures: int
) -> None:
    """Count an attempt on a locked endpoint, and open or close its circuit."""
    counted = endpoints.c.delivered if delivered else endpoints.c.failed
    await uow.conn.execute(
        update(endpoints)
        .where(endpoints.c.tenant_id == uow.tenant, endpoints.c.id == endpoint_id)
        .values({counted: counted + 1, "failures": failures, "circuit_until": circuit_until})
    )


async def keep_probe(uow: UnitOfWork, endpoint_id: UUID, until: datetime) -> None:
    """Nobody else probes an endpoint with an open circuit until then."""
    await uow.conn.execute(
        update(endpoints)
        .where(endpoints.c.tenant_id == uow.tenant, endpoints.c.id == endpoint_id)
        .values(circuit_until=until)
    )


async def insert_secret(uow: UnitOfWork, endpoint_id: UUID, secret_id: UUID, sealed: bytes) -> None:
    """The endpoint's own secret from now on. The one before it must have got its end."""
    await uow.conn.execute(
        insert(secrets).values(tenant_id=uow.tenant, id=secret_id, endpoint_id=endpoint_id, sealed=sealed)
    )


async def end_secrets(uow: UnitOfWork, endpoint_id: UUID, now: datetime, until: datetime) -> None:
    """The current secret ends at `until`, an older one that still signs at once: two sign at most."""
    of = and_(secrets.c.tenant_id == uow.tenant, secrets.c.endpoint_id == endpoint_id)
    await uow.conn.execute(update(secrets).where(of, secrets.c.expires_at > now).values(expires_at=now))
    await uow.conn.execute(update(secrets).where(of, secrets.c.expires_at.is_(None)).values(expires_at=until))


async def load_secrets(
    session: ReadSession, endpoint_id: UUID, now: datetime
) -> tuple[tuple[UUID, bytes], ...]:
    """Ids and sealed bytes of the secrets that sign now, the endpoint's own first."""
    rows = await session.conn.execute(
        select(secrets.c.id, secrets.c.sealed)
        .where(
            secrets.c.tenant_id == session.tenant,
            secrets.c.endpoint_id == endpoint_id,
            or_(secrets.c.expires_at.is_(None), secrets.c.expires_at > now),
        )
        .order_by(secrets.c.expires_at.desc().nulls_first())
    )
    return tuple((row.id, row.sealed) for row in rows)


async def load_expiry(session: ReadSession, endpoint_id: UUID, now: datetime) -> datetime | None:
    """Until when an older secret signs beside the endpoint's own; None when none does."""
    rows = await session.conn.execute(
        select(func.max(secrets.c.expires_at)).where(
            secrets.c.tenant_id == session.tenant,
            secrets.c.endpoint_id == endpoint_id,
            secrets.c.expires_at > now,
        )
    )
    found: datetime | None = rows.scalar_one()
    return found


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(
        id=row.id,
        url=row.url,
        description=row.description,
        types=tuple(row.types),
        state=row.state,
        reason=Reason(row.reason),
        failures=row.failures,
        circuit_until=row.circuit_until,
        delivered=row.delivered,
        failed=row.failed,
        created_at=row.created_at,
        changed_at=row.changed_at,
    )
