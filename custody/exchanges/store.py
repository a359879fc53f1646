"""SQL of exchanges."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, and_, select
from sqlalchemy.dialects.postgresql import insert

from custody.db.session import ReadSession, UnitOfWork
from custody.exchanges.model import Exchange, Rate, Rounding
from custody.exchanges.tables import exchange_reversals, exchanges
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import ExchangeId, WalletId
from custody.kernel.money import Amount


async def insert_exchange(uow: UnitOfWork, made: Exchange) -> None:
    """Record an exchange whose legs were just posted."""
    await uow.conn.execute(
        insert(exchanges).values(
            tenant_id=uow.tenant,
            id=made.id,
            source_wallet_id=made.source_wallet_id,
            destination_wallet_id=made.destination_wallet_id,
            sold_asset=made.sold.asset.text,
            sold=made.sold.atomic,
            bought_asset=made.bought.asset.text,
            bought=made.bought.atomic,
            fee=None if made.fee is None else made.fee.atomic,
            rate_numerator=made.rate.numerator,
            rate_denominator=made.rate.denominator,
            rate_source=made.rate.source,
            quoted_at=made.rate.quoted_at,
            rounding=made.rounding.value,
            requested_by=made.requested_by,
            booked_at=made.booked_at,
        )
    )


async def insert_reversal(
    uow: UnitOfWork, exchange_id: ExchangeId, requested_by: str, booked_at: datetime
) -> None:
    """Record that an exchange's legs were just mirrored."""
    await uow.conn.execute(
        insert(exchange_reversals).values(
            tenant_id=uow.tenant, exchange_id=exchange_id, requested_by=requested_by, booked_at=booked_at
        )
    )


async def load_exchange(session: ReadSession, exchange_id: ExchangeId) -> Exchange | None:
    """The tenant's exchange of this id."""
    rows = await session.conn.execute(_of_tenant(session).where(exchanges.c.id == exchange_id))
    row = rows.one_or_none()
    return None if row is None else _exchange(row)


async def load_exchanges(session: ReadSession, *, before: ExchangeId | None, limit: int) -> list[Exchange]:
    """A page of the tenant's exchanges, by falling id."""
    query = _of_tenant(session)
    if before is not None:
        query = query.where(exchanges.c.id < before)
    rows = await session.conn.execute(query.order_by(exchanges.c.id.desc()).limit(limit))
    return [_exchange(row) for row in rows]


def _of_tenant(session: ReadSession) -> Select[Any]:
    reversals = exchange_reversals.c
    return (
        select(
            exchanges, reversals.requested_by.label("reversed_by"), reversals.booked_at.label("reversed_at")
        )
        .outerjoin_from(
            exchanges,
            exchange_reversals,
            and_(reversals.tenant_id == exchanges.c.tenant_id, reversals.exchange_id == exchanges.c.id),
        )
        .where(exchanges.c.tenant_id == session.tenant)
    )


def _exchange(row: Row[Any]) -> Exchange:
    sold_asset = parse_asset_id(row.sold_asset)
    return Exchange(
        id=ExchangeId(row.id),
        source_wallet_id=WalletId(row.source_wallet_id),
        destination_wallet_id=WalletId(row.destination_wallet_id),
        sold=Amount(sold_asset, row.sold),
        bought=Amount(parse_asset_id(row.bought_asset), row.bought),
        fee=None if row.fee is None else Amount(sold_asset, row.fee),
        rate=Rate(
            numerator=row.rate_numerator,
            denominator=row.rate_denominator,
            source=row.rate_source,
            quoted_at=row.quoted_at,
        ),
        rounding=Rounding(row.rounding),
        requested_by=row.requested_by,
        booked_at=row.booked_at,
        reversed_by=row.reversed_by,
        reversed_at=row.reversed_at,
    )
