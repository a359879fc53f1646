"""The legal moves of an entry of the address book, as data. Each is a row of its own: nothing in the book is ever changed."""

from __future__ import annotations

from custody.kernel.transitions import Transition, TransitionTable

ENTRIES = TransitionTable(
    "address_entry",
    "proposed",
    (
        # A second person has looked at it. It counts after the configured wait.
        Transition("proposed", "confirm", "confirmed"),
        # Nobody wants it any more.
        Transition("proposed", "remove", "removed"),
        # It counts no longer, from this moment on. What was asked for before goes on.
        Transition("confirmed", "remove", "removed"),
    ),
)
