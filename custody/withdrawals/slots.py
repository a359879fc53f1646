"""Which nonce and fee bid an attempt gets on EVM chains, and what every chain's choice may say; Stellar's is in `slots_stellar`.
Pure: from what the chain and our own rows say.

The caller asks the chain first (network), then decides here inside the transaction that writes the row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from custody.chains.ports import FeeQuote
from custody.signing.model import EvmSlot

SIGNER_SKEW_S = 5
"""How far the signer's clock may be behind ours when it frees the slot of a lapsed transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """No slot can be given now."""

    reason: str
    """For operators."""
    look_in_s: int
    """When to try again."""


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
