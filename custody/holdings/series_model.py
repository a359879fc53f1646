"""How one holding has stood over time, and how all of them stand now: frozen values for people who look at them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from custody.holdings.model import Comparison, HoldingBreak
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import VaultId

Which = Literal["all", "standing", "broken"]
"""`all`; `standing`: those of vaults other than deposit addresses, and what is broken; `broken`: with an open break only."""

POINTS_MAX = 1000
"""So many points of a series are given at once."""
BREAKS_MAX = 100
"""So many breaks are marked in a series, the newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPoint:
    """Books and chain from this height on, until the next point."""

    compared: Comparison
    """Both sides."""
    at: datetime
    """The chain's time of the block, where the block touched the holding; else when it was compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingSeries:
    """A holding between two heights."""

    points: tuple[SeriesPoint, ...]
    """Lowest first. The first may lie before the range: what held when it began."""
    breaks: tuple[HoldingBreak, ...]
    """Those that were open somewhere in the range, newest first."""
    height_from: int
    """Where the range begins."""
    height_to: int
    """Where it ends."""
    exact: bool
    """Whether all changes in the range are among the points; else they are samples, each of them exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingCheck:
    """How one holding stands."""

    vault_id: VaultId
    """Whose it is."""
    account: str
    """Its account, as the chain names it."""
    purpose: str
    """What the vault is for."""
    chain: ChainId
    """Where it is."""
    asset: AssetId
    """What it is."""
    last: Comparison | None
    """The newest comparison that found something new: it holds up to the final height. None before the first."""
    found: HoldingBreak | None
    """The open break; None while both are equal."""
    threshold: int
    """Atomic units by which they may differ before payments wait."""
