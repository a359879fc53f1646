"""The legal moves of a break, as data."""

from __future__ import annotations

from custody.kernel.transitions import Transition, TransitionTable

HOLDING_BREAKS = TransitionTable(
    "holding_break",
    "open",
    (
        # Books and chain were equal again at a later height. A difference that comes back is a break of its own.
        Transition("open", "close", "closed"),
    ),
)
