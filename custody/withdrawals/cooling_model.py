"""Rules of how long approved withdrawals wait: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

ANY = "*"
"""Stands in a rule for every asset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolDownRule:
    """How long approved withdrawals wait. The last row of an asset and threshold is in force."""

    sequence: int
    """Order of the rows."""
    asset: str
    """An asset's id, or `*` for every one."""
    amount_min: int
    """Atomic units from which on it holds."""
    seconds: int
    """How long; 0 where the rule was taken back."""
    actor: str
    """Who set it."""
    note: str
    """Why."""
    created_at: datetime
    """When."""
