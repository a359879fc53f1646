"""What the treasury refuses."""

from __future__ import annotations

from custody.kernel.errors import InvalidInput


class BadSweepRule(InvalidInput):
    """The rule contradicts itself, or speaks of an asset that no deposit address holds."""

    code = "bad_sweep_rule"
    public = "This rule of sweeping makes no sense."


class BadTarget(InvalidInput):
    """The levels are out of order, or the vault's purpose knows none."""

    code = "bad_target"
    public = "These levels make no sense."
