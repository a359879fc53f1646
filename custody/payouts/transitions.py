"""The life of a payout, as data.

Rows say which news moves a payout where. What the bank tells us may come twice, late or in the wrong order; `judge` sorts such
news into what moves the payout, what is merely old, and what contradicts the books.
"""

from __future__ import annotations

from enum import StrEnum

from custody.kernel.transitions import Transition, TransitionTable

PAYOUTS = TransitionTable(
    "payout",
    "ready",
    (
        # Money is held; nobody has been asked to pay yet. Only now can it still be called off.
        Transition("ready", "cancel", "cancelled"),
        Transition("ready", "claim", "submitting"),
        # The order may already be on the wire: from here on only the rail's own words count.
        Transition("submitting", "accept", "submitted"),
        Transition("submitting", "reject", "rejected"),
        Transition("submitting", "lose", "unknown"),
        # A callback can overtake the answer to the submission itself.
        Transition("submitting", "settle", "settled"),
        Transition("submitting", "return", "returned"),
        Transition("submitting", "mismatch", "integrity_failed"),
        # Nobody knows. Left by an answer about our own reference, never by a new reference.
        Transition("unknown", "accept", "submitted"),
        Transition("unknown", "reject", "rejected"),
        Transition("unknown", "settle", "settled"),
        Transition("unknown", "return", "returned"),
        Transition("unknown", "mismatch", "integrity_failed"),
        # The rail says that it never heard of the reference: the same reference is sent again.
        Transition("unknown", "resend", "submitting"),
        Transition("submitted", "settle", "settled"),
        Transition("submitted", "reject", "rejected"),
        # A return proves the settlement before it, whichever callback comes first.
        Transition("submitted", "return", "returned"),
        Transition("submitted", "mismatch", "integrity_failed"),
        # Settled is not the end: banks give money back days later.
        Transition("settled", "return", "returned"),
        Transition("settled", "mismatch", "integrity_failed"),
    ),
)


class Judgement(StrEnum):
    """What a piece of news means for a payout in a given state."""

    MOVES = "moves"
    """There is a row: apply it."""
    OLD = "old"
    """True, and already overtaken by what we know. Recorded, changes nothing."""
    CONTRADICTS = "contradicts"
    """Cannot be true together with what we booked. Recorded and told to operators; changes nothing by itself."""


_OLD: dict[str, frozenset[str]] = {
    "accept": frozenset({"submitted", "settled", "returned", "rejected", "integrity_failed"}),
    "lose": frozenset({"unknown", "submitted", "settled", "returned", "rejected", "integrity_failed"}),
    "settle": frozenset({"settled", "returned", "integrity_failed"}),
    "return": frozenset({"returned", "integrity_failed"}),
    "reject": frozenset({"rejected", "integrity_failed"}),
    "mismatch": frozenset({"integrity_failed"}),
}
"""By event: the states in which it tells nothing new."""


class Effect(StrEnum):
    """What a move does to the books."""

    POST_HOLD = "post_hold"
    """The held money has left our bank account."""
    VOID_HOLD = "void_hold"
    """The held money is the customer's again."""
    BOOK_RETURN = "book_return"
    """The money is back on our bank account and in the wallet: the mirror of the settlement."""


def judge(state: str, event: str) -> Judgement:
    """Whether news moves a payout, is old, or contradicts it."""
    if state in PAYOUTS.sources(event):
        return Judgement.MOVES
    return Judgement.OLD if state in _OLD.get(event, frozenset()) else Judgement.CONTRADICTS


def effects(source: str, target: str) -> tuple[Effect, ...]:
    """What the move from `source` to `target` does to the books, in order."""
    match target:
        case "settled":
            return (Effect.POST_HOLD,)
        case "rejected" | "cancelled":
            return (Effect.VOID_HOLD,)
        case "returned":
            return (Effect.BOOK_RETURN,) if source == "settled" else (Effect.POST_HOLD, Effect.BOOK_RETURN)
        case _:
            return ()
