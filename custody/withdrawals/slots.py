"""Which sequence, bounds and fee bid a Stellar attempt gets (EVM: `evm_slots`). Pure: from what chain and our own rows say.

The caller asks the chain first (network), then decides here inside the transaction that writes the row.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from custody.chains.ports import FeeQuote
from custody.signing.model import StellarSlot

SIGNER_SKEW_S = 5
"""How far the signer's clock may be behind ours when it frees the slot of a lapsed transaction."""
_STELLAR_FEE_MIN = 100
"""Stroops for one operation. Source: Stellar protocol, base fee."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """No slot can be given now."""

    reason: str
    """For operators."""
    look_in_s: int
    """When to try again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarView:
    """What is known about a Stellar vault at the moment of reservation."""

    next_sequence: int
    """By the node, asked just before."""
    head: int
    """Newest ledger of the node."""
    own_height: int | None
    """Newest ledger that our own ingestion has finished; none before its first."""
    in_flight: int
    """Attempts of the vault that may still reach a ledger."""
    taken: Collection[int]
    """Sequences that attempts hold."""
    released_until: int
    """Unix seconds until which the signer keeps this sequence for bytes that have lapsed."""
    quote: FeeQuote
    """Going price."""


def choose_stellar(
    view: StellarView, *, max_fee: int, now: int, expires_at: int, valid_s: int, valid_ledgers: int
) -> StellarSlot | Wait:
    """The next sequence, if the vault is free and the bounds can be proved later by our own ingestion.

    One transaction per vault is in flight, because the network queues one per source account. The ledger bound counts from our
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
        fee=min(max(view.quote.fee_stroops, _STELLAR_FEE_MIN), max_fee),
    )
