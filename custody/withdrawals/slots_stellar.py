"""Which sequence, bounds and fee bid a Stellar attempt gets, and when a fee bump is due. Pure: from chain and own rows.

The caller asks the chain first (network), then decides here inside the transaction that writes the row.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from custody.chains.ports import FeeQuote
from custody.chains.stellar.results import UNPAID
from custody.signing.model import FeeSlot, StellarSlot
from custody.withdrawals.model import Attempt
from custody.withdrawals.slots import Wait

SIGNER_SKEW_S = 5
"""How far the signer's clock may be behind ours when it frees the slot of a lapsed transaction."""
FEE_MIN = 100
"""Stroops for one operation. Source: Stellar protocol, base fee."""
REPLACE_FACTOR = 10
"""A fee bump takes the place of what waits with the same sequence when it bids this many times its rate. Source: CAP-15."""
BUMP_UNITS = 2
"""A fee bump around one operation pays for two. Source: CAP-15."""
BUMP_EVERY = 2
"""Ledgers of ours that an attempt gets before its first fee bump, and each bump before the next."""
BUMPS_MAX = 3
"""Most bumps of one attempt: each bids ten times the one before."""
_ROOM = 2
"""Ledgers before the bound in which a bump is still worth its fee."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarView:
    """What is known about the sender, a vault or a channel, at the moment of reservation."""

    next_sequence: int
    """Of a channel by our own ingestion; of a vault by the node, asked just before."""
    head: int
    """Newest ledger of the node."""
    own_height: int | None
    """Newest ledger that our own ingestion has finished; none before its first."""
    in_flight: int
    """Attempts of the sender that may still reach a ledger."""
    taken: Collection[int]
    """Sequences that attempts hold."""
    released_until: int
    """Unix seconds until which the signer keeps this sequence for bytes that have lapsed."""
    quote: FeeQuote
    """Going price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BumpSlot:
    """A fee bump's bid, and the bounds of what it is wrapped around, after which it can no longer apply either."""

    slot: FeeSlot
    max_ledger: int
    max_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Needless:
    """The bump is wanted no more: what it was to be wrapped around has ended, or can apply no longer."""

    reason: str
    """For operators."""


def choose_stellar(
    view: StellarView, *, max_fee: int, now: int, expires_at: int, valid_s: int, valid_ledgers: int
) -> StellarSlot | Wait:
    """The next sequence, if the sender is free and the bounds can be proved later by our own ingestion.

    One transaction per sender is in flight, because the network queues one per source account. The ledger bound counts from our
    own height: a bound that our ingestion passes without the transaction proves that it can never apply.
    """
    if view.in_flight:
        return Wait(reason="vault_busy", look_in_s=5)
    if view.own_height is None or view.head - view.own_height > valid_ledgers // 2:
        return Wait(reason="ingestion_behind", look_in_s=2)
    if view.next_sequence in view.taken:
        return Wait(reason="node_behind", look_in_s=1)
    if view.released_until and now <= view.released_until + SIGNER_SKEW_S:
        return Wait(reason="slot_not_released", look_in_s=view.released_until + SIGNER_SKEW_S + 1 - now)
    return StellarSlot(
        sequence=view.next_sequence,
        max_time=min(now + valid_s, expires_at),
        max_ledger=view.own_height + valid_ledgers,
        fee=min(max(view.quote.fee_stroops, FEE_MIN), max_fee),
    )


def choose_bump(
    inner: Attempt | None, earlier_bids: Collection[int], quote: FeeQuote, *, max_fee: int, now: int
) -> BumpSlot | Needless | Wait:
    """A bid that replaces whatever of the inner transaction waits in a node's queue, within the approved cap."""
    if inner is None or inner.state != "broadcast" or inner.max_ledger is None or inner.max_time is None:
        return Needless(reason="nothing to bump")
    if now >= inner.max_time:
        return Needless(reason="bounds passed")
    least = REPLACE_FACTOR * max(BUMP_UNITS * inner.fee_bid, *earlier_bids, 0)
    if least > max_fee:
        return Wait(reason="bump_over_cap", look_in_s=30)
    bid = min(max(least, BUMP_UNITS * quote.fee_stroops), max_fee)
    return BumpSlot(slot=FeeSlot(fee=bid), max_ledger=inner.max_ledger, max_time=inner.max_time)


def bump_due(
    attempt: Attempt, *, own_height: int | None, valid_ledgers: int, bumps: int, quote: FeeQuote
) -> bool:
    """Whether an attempt that was sent is stuck for its fee and should be bumped once more.

    It is stuck for its fee when others bid more, or when the node says that the fee is too low or that the sender cannot pay it.
    """
    if attempt.max_ledger is None or own_height is None or attempt.state != "broadcast":
        return False
    waited = own_height - (attempt.max_ledger - valid_ledgers)
    dear = quote.fee_stroops > attempt.fee_bid or attempt.last_answer.rpartition(" ")[2] in UNPAID
    timely = BUMP_EVERY * (bumps + 1) <= waited and own_height + _ROOM < attempt.max_ledger
    return dear and timely and bumps < BUMPS_MAX
