"""The listed assets, remembered: an asset's line never changes once it is listed, so that a process need not ask twice."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from custody.assets.errors import UnknownAsset
from custody.assets.model import Asset
from custody.db.reader import Reader
from custody.kernel.assetid import AssetId, parse_asset_id

_ALL = "SELECT id, number, code, decimals FROM assets ORDER BY number"


class KnownAssets:
    """What this process has seen listed."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._known: dict[AssetId, Asset] = {}

    async def of(self, reader: Reader, wanted: Collection[AssetId]) -> Mapping[AssetId, Asset]:
        """At least these. Asks only when one of them was not seen before. Raises UnknownAsset."""
        if not all(each in self._known for each in wanted):
            for row in await reader.fetch(None, _ALL):
                asset = Asset(
                    id=parse_asset_id(row["id"]),
                    number=row["number"],
                    code=row["code"],
                    decimals=row["decimals"],
                )
                self._known[asset.id] = asset
            for each in wanted:
                if each not in self._known:
                    raise UnknownAsset(asset=each.text)
        return self._known
