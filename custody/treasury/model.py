"""Where the tenant's money should lie: rules of sweeping, levels of vaults, and what is found at deposit addresses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from custody.kernel.assetid import AssetId
from custody.kernel.ids import VaultId
from custody.wallets.model import Vault

OMNIBUS, DEPOSIT, GAS, WARM, COLD = "omnibus", "deposit", "gas", "warm", "cold"
"""Purposes of vaults, as `custody.wallets.model` has them."""
LEVELLED = (OMNIBUS, WARM, GAS)
"""Purposes whose vaults have levels. What is cold takes what the others have too much of."""
BEYOND: dict[str, tuple[str, ...]] = {OMNIBUS: (WARM, COLD), WARM: (COLD,), GAS: (OMNIBUS,)}
"""Where such a vault's money comes from when it is low, and goes when it is high: the nearest first."""


class Verdict(StrEnum):
    """What was last found of one asset at one deposit address."""

    EMPTY = "empty"
    """Nothing lies there."""
    DUST = "dust"
    """Not worth its fee: left there."""
    BELOW_THRESHOLD = "below_threshold"
    """Neither enough nor old enough."""
    FEE_TOO_HIGH = "fee_too_high"
    """The network asks for more than the rule allows."""
    FUNDING = "funding"
    """The gas for its sweep is on its way, or asked for."""
    SWEEPING = "sweeping"
    """Its sweep is asked for or under way."""
    WAITING = "waiting"
    """An earlier request ended unpaid, and it is not time to ask again; or another asset of the address goes first."""
    REFUSED = "refused"
    """The policy or the ledger said no; the detail has its code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRule:
    """When an asset is swept from deposit addresses."""

    asset: AssetId
    """Which."""
    threshold: int
    """Atomic units from which on it is swept."""
    dust: int = 0
    """Atomic units below which it is never swept, however old."""
    max_age_s: int | None = None
    """Less than the threshold is swept too once it has lain so long. None for never."""
    fee_max: int
    """The most that one sweep may cost, in atomic units of the chain's own currency, the sending of its gas included."""
    fee_share_max_bp: int | None = None
    """The same as a share of the amount, in hundredths of a percent; for the chain's own currency only."""
    enabled: bool = True
    """False: this asset is left where it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Between which amounts of an asset the vaults of a purpose should stay."""

    purpose: str
    """One of LEVELLED."""
    asset: AssetId
    """Which."""
    low: int
    """Below this it is filled up."""
    target: int
    """To this, from either side."""
    high: int
    """Above this the rest goes where it is safer."""
    enabled: bool = True
    """False: nobody looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What lies at a deposit address, as the worker saw it last."""

    vault_id: VaultId
    """The address's vault."""
    asset: AssetId
    """What."""
    amount: int
    """Atomic units that are final and not held."""
    verdict: Verdict
    """What the rules say about it."""
    detail: str
    """Why it was refused; empty otherwise."""
    since: datetime
    """Since when there has been something, or since the last sweep was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How much of an asset one vault has, beside its levels."""

    vault: Vault
    """Hot, warm, cold, or for gas."""
    asset: AssetId
    """What."""
    posted: int
    """Atomic units that are booked."""
    available: int
    """Of them, what nothing holds."""
    target: Target | None
    """Its levels; None where there are none, or they are off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """All that lies at deposit addresses of one asset under one verdict."""

    asset: AssetId
    """What."""
    verdict: Verdict
    """What the rules say."""
    addresses: int
    """At how many."""
    amount: int
    """Atomic units together."""
