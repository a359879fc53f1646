"""The legal moves of a break and of a halt of a chain, as data."""

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

CHAIN_HALTS = TransitionTable(
    "chain_halt",
    "halted",
    (
        # A person has looked: the other branch is the chain. What was booked of ours is to be taken back.
        Transition("halted", "follow", "following"),
        # A person has looked: our branch is the chain, its node was wrong. Ingestion goes on from where it stands.
        Transition("halted", "keep", "kept"),
        # Ingestion has gone back to the fork, and the books with it.
        Transition("following", "resume", "resumed"),
        # Before it did, the node's chain was ours again: nothing was taken back.
        Transition("following", "return", "returned"),
        # It cannot be followed as decided: money is spent, or the fork has moved further down. A person looks again.
        Transition("following", "refuse", "halted"),
    ),
)
