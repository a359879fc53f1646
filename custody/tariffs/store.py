"""SQL of tariffs and quotes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import QuoteId, WalletId
from custody.kernel.money import Amount
from custody.tariffs.model import HeldFee, Quote, Tariff, TariffTerms
from custody.tariffs.tables import tariffs, withdrawal_quotes


async def load_tariff(session: ReadSession, asset: AssetId) -> Tariff | None:
    """The tariff in force for an asset."""
    rows = await session.conn.execute(
        select(tariffs)
        .where(tariffs.c.tenant_id == session.tenant, tariffs.c.asset == asset.text)
        .order_by(tariffs.c.version.desc())
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else _tariff(row)


async def load_tariffs(session: ReadSession) -> list[Tariff]:
    """The tariffs in force, one for each asset that has any."""
    rows = await session.conn.execute(
        select(tariffs)
        .ext(distinct_on(tariffs.c.asset))
        .where(tariffs.c.tenant_id == session.tenant)
        .order_by(tariffs.c.asset, tariffs.c.version.desc())
    )
    return [_tariff(row) for row in rows]


async def insert_tariff(uow: UnitOfWork, new: Tariff) -> None:
    """Append a version."""
    terms = new.terms
    await uow.conn.execute(
        insert(tariffs).values(
            tenant_id=uow.tenant,
            asset=new.asset.text,
            version=new.version,
            kind=terms.kind,
            flat=terms.flat,
            bps=terms.bps,
            minimum=terms.minimum,
            maximum=terms.maximum,
            quote_valid_s=terms.quote_valid_s,
            set_by=new.set_by,
            note=new.note,
        )
    )


async def load_quote(session: ReadSession, quote_id: QuoteId) -> Quote | None:
    """One quote."""
    table = withdrawal_quotes
    rows = await session.conn.execute(
        select(table).where(table.c.tenant_id == session.tenant, table.c.id == quote_id)
    )
    row = rows.one_or_none()
    return None if row is None else _quote(row)


async def insert_quote(uow: UnitOfWork, new: Quote, asked_by: str) -> None:
    """Keep a quote."""
    await uow.conn.execute(
        insert(withdrawal_quotes).values(
            tenant_id=uow.tenant,
            id=new.id,
            wallet_id=new.wallet_id,
            asset=new.amount.asset.text,
            amount=new.amount.atomic,
            fee_kind=new.fee.kind,
            tariff_version=new.fee.tariff_version,
            fee_held=new.fee.held,
            markup_bps=new.fee.markup_bps,
            asked_by=asked_by,
            expires_at=new.expires_at,
            created_at=new.created_at,
        )
    )


def _tariff(row: Row[Any]) -> Tariff:
    return Tariff(
        asset=parse_asset_id(row.asset),
        version=row.version,
        terms=TariffTerms(
            kind=row.kind,
            flat=int(row.flat),
            bps=row.bps,
            minimum=int(row.minimum),
            maximum=None if row.maximum is None else int(row.maximum),
            quote_valid_s=row.quote_valid_s,
        ),
        set_by=row.set_by,
        note=row.note,
    )


def _quote(row: Row[Any]) -> Quote:
    return Quote(
        id=QuoteId(row.id),
        wallet_id=WalletId(row.wallet_id),
        amount=Amount(parse_asset_id(row.asset), int(row.amount)),
        fee=HeldFee(
            kind=row.fee_kind,
            tariff_version=row.tariff_version,
            quote_id=row.id,
            held=int(row.fee_held),
            markup_bps=row.markup_bps,
        ),
        expires_at=row.expires_at,
        created_at=row.created_at,
    )
