"""Broken invariants of what was read from a chain's state."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, InvariantViolated, NotFound


class StateExistsDifferent(InvariantViolated):
    """The same block was read twice with another content: the chain or the reader contradicts itself."""

    code = "chain_state_exists_different"
    public = "A block's state was read twice with different content."


class UnknownHalt(NotFound):
    """No chain was ever halted under this id."""

    code = "unknown_chain_halt"
    public = "No such halt of a chain."


class HaltDecided(Conflict):
    """A person has decided about it otherwise, or it has ended."""

    code = "chain_halt_decided"
    public = "This halt of a chain has been decided about otherwise, or has ended."


class ThresholdNegative(InvalidInput):
    """A difference is compared by its size: nothing lies below zero."""

    code = "threshold_negative"
    public = "A threshold is zero or more atomic units."
