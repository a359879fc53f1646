"""Which nonce and price an EVM attempt gets, and when a nonce is bid for again. Pure: from what the chain and our own rows say.

Many transactions of one key are under way at once, in the order of their nonces; none waits for the one before, but none is mined
before it either. So what keeps the lowest nonce back keeps back all behind it, and only about the lowest is anything decided.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from custody.chains.ports import FeeQuote, Submission, SubmissionStatus
from custody.signing.model import EvmSlot
from custody.withdrawals.model import Attempt
from custody.withdrawals.slots import Wait

REPLACEMENTS_MAX = 5
"""Replacements of one transaction. The signer lets eight alternatives stand on a nonce: the rest is left for cancels."""
_PATIENCE = 3
"""After so many times the blocks that a fallen price is given, something else than the price is wrong."""
_UNDERPRICED = frozenset({"underpriced", "replacement_underpriced"})
"""The node's own reasons for which only another price helps. Source: `custody.chains.evm.answers`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmView:
    """What is known about an EVM vault at the moment of reservation."""

    next_nonce: int
    """By the node, pending transactions included, asked just before."""
    taken: Collection[int]
    """Nonces that attempts hold, and those of transactions that none explains."""
    in_flight: int
    """Nonces that attempts hold and no block has used."""
    in_flight_max: int
    """How many there may be."""
    spendable: int
    """Wei of the vault by the node, less what attempts in flight may take."""
    quote: FeeQuote
    """Going price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The highest prices that an intent allows."""

    fee: int
    """Wei per gas."""
    tip: int
    """Wei per gas to the block's producer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What is known about sent bytes that no block of ours holds."""

    attempt: Attempt
    """The newest on its nonce."""
    alternatives: Sequence[Attempt]
    """All on its nonce that hold it, this one too."""
    replaceable: bool
    """Whether the signer replaces what it is, and no cancel is under way."""
    caps: Prices
    """What the withdrawal's own intent allows; what people approved."""
    head: int
    """Newest block of the node."""
    mined: int
    """Nonce after those in blocks, by the node."""
    lowest: int
    """Lowest nonce of the vault that an attempt holds and no block has used, by our rows."""
    gap: bool
    """Whether nothing of ours that can be mined, nor a stray, holds the nonce that the chain waits for."""
    lost: bool
    """Whether that is because the signer gave it away before, for bytes that our rows do not know."""
    quote: FeeQuote
    """Going price."""
    answer: Submission
    """What the node said to the bytes just now."""
    stuck_after: int
    """Blocks that it may wait."""
    bump_percent: int
    """How much dearer a replacement is at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What is to be done about them."""

    watch: bool = False
    """Note the newest block: from here on it is the next of its account."""
    stuck: str = ""
    """Why a person should look; "" for not yet, or no more."""
    replace: EvmSlot | None = None
    """Bid again, on the same nonce."""
    fill: bool = False
    """Use up the nonce that the chain waits for, which is nobody's."""


def choose_evm(view: EvmView, *, spend_at: Callable[[int], int], caps: Prices) -> EvmSlot | Wait:
    """The lowest nonce that the chain has not used and no attempt holds: a gap, left by a refusal, is filled first.

    A nonce once signed blocks all later ones until it is mined. So it waits while the cap is below the going price (the quote
    leaves room for a rising base fee; half of it is the least that is taken), and while the vault cannot pay for value, gas and
    the layer below; `spend_at` tells value and gas at a price per gas: the node would not take the transaction.
    """
    if view.in_flight >= view.in_flight_max:
        return Wait(reason="vault_busy", look_in_s=2)
    if caps.fee * 2 < view.quote.max_fee_per_gas_wei:
        return Wait(reason="fee_over_cap", look_in_s=10)
    price = min(max(view.quote.max_fee_per_gas_wei, 1), caps.fee)
    if view.spendable < spend_at(price) + view.quote.layer_one_fee_wei:
        return Wait(reason="vault_lacks_gas", look_in_s=15)
    return EvmSlot(
        nonce=lowest_free(view.next_nonce, view.taken),
        max_fee_per_gas=price,
        max_priority_fee_per_gas=min(view.quote.max_priority_fee_per_gas_wei, caps.tip, price),
    )


def lowest_free(next_nonce: int, taken: Collection[int]) -> int:
    """The lowest nonce from here on that nothing of ours holds."""
    nonce = next_nonce
    while nonce in taken:
        nonce += 1
    return nonce


def outbid(
    alternatives: Sequence[Attempt], quote: FeeQuote, caps: Prices, bump_percent: int
) -> EvmSlot | None:
    """The going price, yet so much above every alternative in both prices that pools and signer take it; None if over the caps.

    Source: go-ethereum txpool pricebump (10 %), the signer's SPEC.md section 8.
    """
    least_fee = max(bumped(each.fee_bid, bump_percent) for each in alternatives)
    least_tip = max(bumped(each.priority_fee, bump_percent) for each in alternatives)
    fee = min(max(least_fee, least_tip, quote.max_fee_per_gas_wei), caps.fee)
    tip = min(max(least_tip, quote.max_priority_fee_per_gas_wei), caps.tip, fee)
    if fee < least_fee or tip < least_tip:
        return None
    return EvmSlot(nonce=alternatives[0].sequence, max_fee_per_gas=fee, max_priority_fee_per_gas=tip)


def bumped(price: int, percent: int) -> int:
    """A price so many percent higher, rounded up; at least one wei, since the signer wants a tip of nothing to rise too."""
    return max(price + 1, -(-price * (100 + percent) // 100))


def judge(pending: Pending) -> Judgement:
    """Whether sent bytes are waited for, bid for again, or shown to a person. Never a proof of anything: blocks alone are that.

    They are replaced only when they are the next of their account and the price is what keeps them: the node says so, or it has
    fallen behind the going price and `stuck_after` blocks came without them.
    """
    attempt = pending.attempt
    if pending.mined > attempt.sequence:
        return _used(pending)
    if pending.mined < attempt.sequence:
        stuck = pending.gap and attempt.sequence == pending.lowest
        return Judgement(stuck="nonce_gap" if stuck else "", fill=stuck and not pending.lost)
    if attempt.watched_from is None:
        return Judgement(watch=True, replace=_raise(pending).replace if _refused_for_price(pending) else None)
    waited = pending.head - attempt.watched_from
    if pending.answer.code == "insufficient_funds":
        return Judgement(stuck="vault_lacks_gas")
    if _refused_for_price(pending) or (waited >= pending.stuck_after and _behind(attempt, pending.quote)):
        return _raise(pending)
    if waited < pending.stuck_after * _PATIENCE:
        return Judgement()
    refused = pending.answer.status is SubmissionStatus.REFUSED
    return Judgement(stuck="node_refuses" if refused else "not_mined")


def _used(pending: Pending) -> Judgement:
    """The nonce is in a block. Ours are shown by our own ingestion; of the node's word only the doubt is taken."""
    if pending.answer.code != "nonce_too_low" or any(
        each.state == "included" for each in pending.alternatives
    ):
        return Judgement()
    if pending.attempt.watched_from is None:
        return Judgement(watch=True)
    waited = pending.head - pending.attempt.watched_from
    return Judgement(stuck="nonce_used_elsewhere" if waited >= pending.stuck_after else "")


def _refused_for_price(pending: Pending) -> bool:
    return pending.answer.status is SubmissionStatus.REFUSED and pending.answer.code in _UNDERPRICED


def _behind(attempt: Attempt, quote: FeeQuote) -> bool:
    """Whether blocks now take more than it pays: the base fee, or the tip that remains above it."""
    remains = min(attempt.priority_fee, attempt.fee_bid - quote.base_fee_per_gas_wei)
    return remains < quote.max_priority_fee_per_gas_wei or remains < 0


def _raise(pending: Pending) -> Judgement:
    if not pending.replaceable:
        return Judgement(stuck="fee_cap_reached")
    if len(pending.alternatives) > REPLACEMENTS_MAX:
        return Judgement(stuck="too_many_replacements")
    slot = outbid(pending.alternatives, pending.quote, pending.caps, pending.bump_percent)
    return Judgement(stuck="fee_cap_reached") if slot is None else Judgement(replace=slot)
