"""From an intent and its binding to bytes and back, whatever the chain."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from signer.build import evm, message, stellar, stellar_contract, stellar_fee_bump
from signer.protocol.intent import (
    EvmCall,
    EvmCancel,
    EvmIntent,
    EvmReplace,
    Intent,
    MessageIntent,
    StellarContractPayment,
    StellarFeeBump,
    StellarIntent,
    StellarMessage,
    StellarOperation,
)
from signer.protocol.messages import (
    Binding,
    ContractBinding,
    EvmBinding,
    FeeBinding,
    NoBinding,
    StellarBinding,
)
from signer.refusal import HsmFault, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What this signer signed under the digest that an intent names."""

    intent: Intent
    binding: Binding
    tx: bytes


def build_unsigned(
    intent: Intent, binding: Binding, earlier: Earlier | None, networks: Mapping[str, str], now: int
) -> bytes:
    """Return what is hashed and signed; raises Refusal when the binding does more than narrow the intent."""
    if isinstance(intent, StellarFeeBump):
        if not isinstance(binding, FeeBinding) or earlier is None:
            raise _other_kind()
        stellar_fee_bump.check_binding(intent, binding)
        passphrase = stellar.check_network(intent, networks)
        return stellar_fee_bump.build_unsigned(intent, binding, earlier.tx, passphrase)
    if isinstance(intent, StellarOperation):
        if not isinstance(binding, StellarBinding | ContractBinding):
            raise _other_kind()
        stellar.check_binding(intent, binding, now)
        if isinstance(intent, StellarContractPayment):
            stellar_contract.check_destination(intent)
        return stellar.build_unsigned(intent, binding, stellar.check_network(intent, networks))
    if isinstance(intent, EvmIntent):
        if not isinstance(binding, EvmBinding):
            raise _other_kind()
        evm.check_binding(intent, binding)
        return evm.build_unsigned(intent, binding, _effect_of(intent, earlier))
    if isinstance(intent, MessageIntent):
        if not isinstance(binding, NoBinding):
            raise _other_kind()
        return message.build_unsigned(intent)
    assert_never(intent)


def message_of(intent: Intent, unsigned: bytes) -> bytes:
    """Return the 32 bytes that the key signs."""
    if isinstance(intent, MessageIntent):
        return message.message_of(intent, unsigned)
    return stellar.message_of(unsigned) if isinstance(intent, StellarIntent) else evm.message_of(unsigned)


def finish(
    intent: Intent,
    unsigned: bytes,
    signatures: Mapping[bytes, bytes],
    networks: Mapping[str, str],
    holder: bytes = b"",
) -> tuple[bytes, str]:
    """Return the signed transaction, or the signature of a message, and the hash (hex).

    `signatures` are by public key. `holder` is the key that signs for a Stellar source, b"" for the source's own. Raises
    HsmFault when a signature is not by its key, or a key is not one that has to sign.
    """
    if isinstance(intent, StellarFeeBump):
        return stellar_fee_bump.finish(unsigned, signatures, intent, stellar.check_network(intent, networks))
    if isinstance(intent, StellarOperation):
        return stellar.finish(unsigned, signatures, intent, stellar.check_network(intent, networks), holder)
    if len(signatures) != 1:
        raise HsmFault("one key signs")
    ((public_key, signature),) = signatures.items()
    hashed = message_of(intent, unsigned)
    if isinstance(intent, StellarMessage):
        stellar.decorate(signatures, hashed)
        return signature, hashed.hex()
    if isinstance(intent, EvmIntent):
        return evm.finish(unsigned, signature, public_key)
    r, s, parity = evm.recoverable(signature, hashed, public_key)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + parity]), hashed.hex()


def _effect_of(intent: EvmIntent, earlier: Earlier | None) -> EvmCall | EvmCancel:
    """Return the intent that says what the transaction does: of a replacement, the one in the record."""
    if not isinstance(intent, EvmReplace):
        return intent
    if earlier is None or not isinstance(earlier.intent, EvmCall):
        raise Refusal("unknown_intent", "there is nothing of that digest to replace")
    return earlier.intent


def _other_kind() -> Refusal:
    return Refusal("bad_binding", "the binding is for another kind of intent")
