"""The life of an adjustment, as data. Nothing moves before a second person has confirmed."""

from __future__ import annotations

from custody.kernel.transitions import Transition, TransitionTable

ADJUSTMENTS = TransitionTable(
    "adjustment",
    "proposed",
    (
        # Somebody else than the proposer agrees: posted in the same transaction, or refused and still proposed.
        Transition("proposed", "confirm", "posted"),
        # Somebody else does not agree.
        Transition("proposed", "reject", "rejected"),
        # The proposer thinks better of it.
        Transition("proposed", "withdraw", "withdrawn"),
    ),
)
