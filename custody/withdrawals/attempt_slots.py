"""A slot as an attempt's row keeps it, and the slot in such a row again. Pure."""

from __future__ import annotations

from custody.kernel.ids import AttemptId, new_uuid
from custody.signing.model import EvmSlot, FeeSlot, Slot, StellarSlot
from custody.wallets.model import Vault
from custody.withdrawals.model import Attempt, Withdrawal
from custody.withdrawals.slots_stellar import BumpSlot
from custody.withdrawals.transitions import ATTEMPTS


def new_attempt(
    withdrawal: Withdrawal,
    sender: Vault,
    number: int,
    chosen: Slot | BumpSlot,
    *,
    alternative_of: AttemptId | None = None,
    intent: bytes | None = None,
    spends: int = 0,
) -> Attempt:
    """An attempt in its first state; `sender` is the vault whose sequence or nonce it uses. `spends`: EVM, wei that the sender
    must hold for it."""
    slot = chosen.slot if isinstance(chosen, BumpSlot) else chosen
    bounds = chosen if isinstance(chosen, StellarSlot | BumpSlot) else None
    return Attempt(
        id=AttemptId(new_uuid()),
        withdrawal_id=withdrawal.id,
        vault_id=sender.id,
        chain=sender.chain,
        number=number,
        state=ATTEMPTS.initial,
        sequence=_sequence(slot),
        max_ledger=None if bounds is None else bounds.max_ledger,
        max_time=None if bounds is None else bounds.max_time,
        fee_bid=slot.max_fee_per_gas if isinstance(slot, EvmSlot) else slot.fee,
        priority_fee=slot.max_priority_fee_per_gas if isinstance(slot, EvmSlot) else 0,
        tx=None,
        tx_hash=None,
        sends=0,
        last_answer="",
        height=None,
        succeeded=None,
        fee_paid=None,
        included_at=None,
        alternative_of=alternative_of,
        intent=intent,
        spends=spends,
    )


def slot_of(attempt: Attempt) -> Slot:
    """The slot that an attempt holds, the same whenever the signer is asked."""
    if attempt.max_ledger is None or attempt.max_time is None:
        return EvmSlot(
            nonce=attempt.sequence,
            max_fee_per_gas=attempt.fee_bid,
            max_priority_fee_per_gas=attempt.priority_fee,
        )
    if attempt.is_fee_bump:
        return FeeSlot(fee=attempt.fee_bid)
    return StellarSlot(
        sequence=attempt.sequence,
        max_time=attempt.max_time,
        max_ledger=attempt.max_ledger,
        fee=attempt.fee_bid,
    )


def _sequence(slot: Slot) -> int:
    """The number that the slot uses; a fee bump has none of its own."""
    match slot:
        case StellarSlot():
            return slot.sequence
        case EvmSlot():
            return slot.nonce
        case FeeSlot():
            return 0
