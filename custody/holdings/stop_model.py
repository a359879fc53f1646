"""What stops payments of a holding whose books differ from the chain, and all sending on a chain that we do not see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args
from uuid import UUID

from custody.kernel.assetid import AssetId

ChainStop = Literal["chain_halted", "chain_not_followed"]
"""Why nothing new is sent on a chain: ingestion has stopped there, or has not been at the tip for too long."""
CHAIN_STOPS: tuple[ChainStop, ...] = get_args(ChainStop)
HALTED, NOT_FOLLOWED = CHAIN_STOPS


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """By how much books and chain of an asset may differ before payments of it wait."""

    asset: AssetId
    """Which asset, in every vault of the tenant."""
    version: int
    """From 1; the newest is in force."""
    threshold: int
    """Atomic units, either way; more stops."""
    set_by: str
    """Subject who set it."""
    note: str
    """Why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """An open break of a holding, and what is let pass."""

    break_id: UUID
    """Which break."""
    difference: int
    """What the books have too much, in atomic units with sign."""
    threshold: int
    """Atomic units that may differ."""
