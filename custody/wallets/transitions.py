"""The legal moves of a deposit key and of the batch it was made in, as data."""

from __future__ import annotations

from custody.kernel.transitions import Transition, TransitionTable

DEPOSIT_KEYS = TransitionTable(
    "deposit_key",
    "free",
    (
        # A wallet asked for its address: it is this one from now on, on every EVM chain. There is no way back.
        Transition("free", "take", "taken"),
        # An operator does not trust it: the signer does not know it, or it may be known to others. Nobody gets it.
        Transition("free", "set_aside", "set_aside"),
    ),
)

KEY_BATCHES = TransitionTable(
    "deposit_key_batch",
    "asked",
    (
        # The signer has answered, and all its keys are in the pool.
        Transition("asked", "store", "stored"),
    ),
)
