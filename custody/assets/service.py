"""List assets and look them up."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert

from custody.assets.errors import AssetExistsDifferent, UnknownAsset
from custody.assets.model import Asset
from custody.assets.tables import assets
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId, parse_asset_id


async def register(uow: UnitOfWork, asset_id: AssetId, code: str, decimals: int) -> Asset:
    """List an asset. Idempotent by its id; raises AssetExistsDifferent when it is listed otherwise."""
    await uow.conn.execute(
        insert(assets)
        .values(id=asset_id.text, chain=asset_id.chain, code=code, decimals=decimals)
        .on_conflict_do_nothing()
    )
    asset = await get(uow, asset_id)
    if (asset.code, asset.decimals) != (code, decimals):
        raise AssetExistsDifferent(asset=asset_id.text, code=asset.code, decimals=asset.decimals)
    return asset


async def find(session: ReadSession, asset_id: AssetId) -> Asset | None:
    """The listed asset, or None."""
    rows = await session.conn.execute(select(assets).where(assets.c.id == asset_id.text))
    row = rows.one_or_none()
    return None if row is None else _asset(row)


async def get(session: ReadSession, asset_id: AssetId) -> Asset:
    """The listed asset. Raises UnknownAsset."""
    asset = await find(session, asset_id)
    if asset is None:
        raise UnknownAsset(asset=asset_id.text)
    return asset


async def list_assets(session: ReadSession) -> list[Asset]:
    """All listed assets, in the order they were listed."""
    rows = await session.conn.execute(select(assets).order_by(assets.c.number))
    return [_asset(row) for row in rows]


def _asset(row: Row[Any]) -> Asset:
    return Asset(id=parse_asset_id(row.id), number=row.number, code=row.code, decimals=row.decimals)
