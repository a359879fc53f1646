"""Which sequence or nonce, bounds and fee bid an attempt gets. Pure: from what the chain and our own rows say.

The caller asks the chain first (network), then decides here inside the transaction that writes the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from custody.chains.ports import FeeQuote
from custody.signing.model import EvmSlot, StellarSlot

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmView:
    """What is known about an EVM vault at the moment of reservation."""

    next_nonce: int
    """By the node, pending transactions included, asked just before."""
    taken: Collection[int]
    """Nonces that attempts hold."""
    spendable: int
    """Wei of the vault by the node, less what attempts in flight may take."""
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


def choose_evm(
    view: EvmView,
    *,
    spend_at: Callable[[int], int],
    max_fee_per_gas: int,
    max_priority_fee_per_gas: int,
) -> EvmSlot | Wait:
    """The lowest nonce that the chain has not used and no attempt holds: a gap, left by a refusal, is filled first.

    A nonce once signed blocks all later ones until it is mined. So it waits while the cap is below the going price (the quote
    leaves room for a rising base fee; half of it is the least that is taken), and while the vault cannot pay for value and gas,
    of which `spend_at` tells the sum at a price per gas: the node would not take the transaction.
    """
    if max_fee_per_gas * 2 < view.quote.max_fee_per_gas_wei:
        return Wait(reason="fee_over_cap", look_in_s=10)
    nonce = view.next_nonce
    while nonce in view.taken:
        nonce += 1
    price = min(max(view.quote.max_fee_per_gas_wei, 1), max_fee_per_gas)
    if view.spendable < spend_at(price):
        return Wait(reason="vault_lacks_gas", look_in_s=15)
    return EvmSlot(
        nonce=nonce,
        max_fee_per_gas=price,
        max_priority_fee_per_gas=min(
            view.quote.max_priority_fee_per_gas_wei, max_priority_fee_per_gas, price
        ),
    )
