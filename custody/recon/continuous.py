"""Reconciliation that never ends: how each vault and asset stands at its chain's final height, and how it has stood.

Ingestion compares books and chain in the transaction that books what became final (`holdings.service.compare_final`), so that
here nothing is compared: it is read what was found, from one snapshot.
"""

from __future__ import annotations

from dataclasses import dataclass

from custody.assets import service as assets
from custody.db.session import ReadSession
from custody.deposits import service as deposits
from custody.holdings import series
from custody.holdings.compare import exceeds
from custody.holdings.series_model import HoldingCheck, HoldingSeries, Which
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import VaultId
from custody.recon.errors import NeverCompared
from custody.wallets import service as wallets


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousState:
    """One vault and asset at its chain's final height."""

    check: HoldingCheck
    """Both sides and the open break, if any."""
    height: int | None
    """Up to which the books follow the chain; None before the first final block."""

    @property
    def stops_payments(self) -> bool:
        """Whether payments of this asset from this vault wait."""
        found = self.check.found
        return found is not None and exceeds(found.difference, self.check.threshold)


async def list_states(
    session: ReadSession,
    which: Which = "all",
    *,
    after: tuple[VaultId, AssetId] | None = None,
    limit: int = 100,
) -> list[ContinuousState]:
    """A page of them, in the order of vault and asset."""
    found = await series.list_checks(session, which, after=after, limit=limit)
    heights: dict[ChainId, int | None] = {}
    for chain in {each.chain for each in found}:
        final = await deposits.final_height(session, chain)
        heights[chain] = None if final is None else final.height
    return [ContinuousState(check=each, height=heights[each.chain]) for each in found]


async def read_series(
    session: ReadSession,
    vault_id: VaultId,
    asset: AssetId,
    *,
    height_from: int | None = None,
    height_to: int | None = None,
    points: int = 300,
) -> HoldingSeries:
    """Books and chain of one vault and asset over time, up to the final height unless told.

    Raises UnknownVault, UnknownAsset, NeverCompared.
    """
    vault = await wallets.get_vault(session, vault_id)
    await assets.get(session, asset)
    final = await deposits.final_height(session, vault.chain)
    top = 0 if final is None else final.height
    found = await series.read_series(
        session,
        (vault_id, asset),
        height_from=height_from,
        height_to=top if height_to is None else min(height_to, top),
        points=points,
    )
    if found is None:
        raise NeverCompared(vault=str(vault_id), asset=asset.text)
    return found
