"""Assets that this installation knows."""

from __future__ import annotations

from dataclasses import dataclass

from custody.kernel.assetid import AssetId


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A listed asset. Only listed assets credit anybody. Its decimals are frozen for ever."""

    id: AssetId
    """Its name."""
    number: int
    """Small integer that ledger accounts refer to."""
    code: str
    """What people call it: XLM, USDC, EUR."""
    decimals: int
    """How many digits of an atomic amount stand behind the point."""
