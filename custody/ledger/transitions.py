"""The legal moves of accounts and holds. The posting function decides by the same rows, under its locks."""

from __future__ import annotations

from custody.kernel.transitions import Transition, TransitionTable

ACCOUNTS = TransitionTable(
    "ledger account",
    "open",
    (
        Transition("open", "freeze", "frozen"),  # compliance stops money from leaving
        Transition("frozen", "unfreeze", "open"),  # and lets it go again
        Transition("open", "close", "closed"),  # empty and not needed any more
        Transition("frozen", "close", "closed"),  # an empty frozen account need not be thawed to be closed
    ),
)

HOLDS = TransitionTable(
    "ledger hold",
    "open",
    (
        Transition(
            "open", "post", "posted"
        ),  # the last post: nothing remains, or the rest was released with it
        Transition("open", "void", "voided"),  # the rest was released on request
        Transition("open", "expire", "expired"),  # the rest was released by the sweeper
    ),
)
