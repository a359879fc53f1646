"""What every chain's choice of a slot may say. The choices are in `slots_stellar` and `evm_slots`.

The caller asks the chain first (network), then decides inside the transaction that writes the row.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """No slot can be given now."""

    reason: str
    """For operators."""
    look_in_s: int
    """When to try again."""
