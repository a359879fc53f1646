"""Which sequence number or nonce an intent may take: one (key, chain, number) has one effect.

A slot holds alternatives. On Stellar, and at first on EVM, that is one intent. A replacement or a cancel joins the slot of the
intent that it names: then several signed transactions exist for one nonce, any of them can be mined, and exactly one is.
A slot passes to another intent only when nothing on it can take effect any more.
"""

from dataclasses import dataclass

from signer.facts import Bound
from signer.protocol import canonical
from signer.protocol.intent import EvmCancel, EvmReplace, Intent
from signer.protocol.messages import Binding, ContractBinding, EvmBinding, StellarBinding
from signer.refusal import Refusal
from signer.state import State

ALTERNATIVES_MAX = 8
"""Most intents on one nonce, the first one included: a bound on the climb of fees, and on what an operator must watch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where an intent wants to stand. A message and a fee bump stand nowhere: they use no number of their own."""

    key_id: str
    """"" for nowhere."""
    chain: str
    number: int
    """0 for nowhere."""
    replaces: bytes
    """Digest of the intent whose slot it shares; b"" for one that wants the slot for itself."""


def slot_of(intent: Intent, binding: Binding, key_id: str) -> Slot:
    """Return the slot that the binding asks for; `key_id` is the key whose numbers count."""
    match binding:
        case StellarBinding():
            return Slot(key_id=key_id, chain=intent.chain, number=binding.sequence, replaces=b"")
        case ContractBinding():
            return Slot(key_id=key_id, chain=intent.chain, number=binding.frame.sequence, replaces=b"")
        case EvmBinding():
            replaces = b""
            if isinstance(intent, EvmReplace):
                replaces = bytes.fromhex(intent.replaces)
            if isinstance(intent, EvmCancel):
                replaces = bytes.fromhex(intent.cancels)
            return Slot(key_id=key_id, chain=intent.chain, number=binding.nonce, replaces=replaces)
        case _:
            return Slot(key_id="", chain=intent.chain, number=0, replaces=b"")


def check_slot(state: State, slot: Slot, intent: Intent, binding: Binding, now: int) -> None:
    """Raise Refusal unless the intent may take the slot, or join it."""
    if slot.key_id == "":
        return
    alternatives = [
        state.bound[digest] for digest in state.slots.get((slot.key_id, slot.chain, slot.number), ())
    ]
    if slot.replaces == b"":
        if any(not _is_over(state, bound, now) for bound in alternatives):
            raise Refusal("slot_used", "the key's sequence or nonce belongs to another intent")
        return
    if not alternatives or alternatives[0].digest != slot.replaces:
        raise Refusal("bad_binding", "the nonce is not the one of the intent named")
    if len(alternatives) >= ALTERNATIVES_MAX:
        raise Refusal("too_many_alternatives", f"a nonce has at most {ALTERNATIVES_MAX} alternatives")
    if isinstance(intent, EvmReplace) and any(_is_cancel(bound) for bound in alternatives):
        raise Refusal("cancelled", "a cancel was approved; only a dearer cancel may follow it")
    for bound in alternatives:
        _check_dearer(binding, bound.binding)


def _is_over(state: State, bound: Bound, now: int) -> bool:
    """Tell whether an intent that holds a slot can no longer take effect, so that the slot may serve another.

    Never signed and never to be: the process died after binding, then the intent expired, was vetoed or given up; its nonce would
    leave a gap that no later transaction can pass. Or signed for Stellar, and lapsed. One that is being signed just now holds on,
    whatever the clock says.
    """
    if bound.digest in state.under_way:
        return False
    if bound.digest in state.signed:
        return _has_lapsed(bound.binding, now)
    if bound.digest in state.vetoed or bound.digest in state.voided:
        return True
    return now >= canonical.decode(bound.intent).expires_at


def _has_lapsed(binding: Binding, now: int) -> bool:
    """Whether bytes under this binding can no longer apply, so that their sequence may serve another intent.

    Without this a Stellar account whose transaction missed its window could never send again. Were our clock ahead of the
    network's, the two transactions would still exclude each other, because they share the sequence. An EVM nonce has no end.
    """
    if isinstance(binding, ContractBinding):
        return now > binding.frame.max_time
    return isinstance(binding, StellarBinding) and now > binding.max_time


def _is_cancel(bound: Bound) -> bool:
    return isinstance(canonical.decode(bound.intent), EvmCancel)


def _check_dearer(binding: Binding, earlier: Binding) -> None:
    """Both prices rise by a tenth at least, or no node passes the transaction on. Source: go-ethereum, txpool.pricebump."""
    if not isinstance(binding, EvmBinding) or not isinstance(earlier, EvmBinding):
        raise Refusal("bad_binding", "only a nonce has alternatives")
    prices = (
        (binding.max_fee_per_gas, earlier.max_fee_per_gas),
        (binding.max_priority_fee_per_gas, earlier.max_priority_fee_per_gas),
    )
    if any(new * 10 < old * 11 or new <= old for new, old in prices):
        raise Refusal("underpriced", "both prices must be a tenth above every alternative on the nonce")
