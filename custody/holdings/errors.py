"""Broken invariants of what was read from a chain's state."""

from __future__ import annotations

from custody.kernel.errors import InvariantViolated


class StateExistsDifferent(InvariantViolated):
    """The same block was read twice with another content: the chain or the reader contradicts itself."""

    code = "chain_state_exists_different"
    public = "A block's state was read twice with different content."
