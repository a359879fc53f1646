"""From an intent and its binding to bytes and back, whatever the chain."""

from collections.abc import Mapping

from signer.build import evm, stellar
from signer.protocol.intent import Intent, StellarIntent
from signer.protocol.messages import Binding, StellarBinding
from signer.refusal import Refusal


def build_unsigned(intent: Intent, binding: Binding, networks: Mapping[str, str], now: int) -> bytes:
    """Return what is hashed and signed; raises Refusal when the binding does more than narrow the intent."""
    if isinstance(intent, StellarIntent):
        if not isinstance(binding, StellarBinding):
            raise _other_chain()
        stellar.check_binding(intent, binding, now)
        return stellar.build_unsigned(intent, binding, stellar.check_network(intent, networks))
    if isinstance(binding, StellarBinding):
        raise _other_chain()
    evm.check_binding(intent, binding)
    return evm.build_unsigned(intent, binding)


def message_of(intent: Intent, unsigned: bytes) -> bytes:
    """Return the 32 bytes that the key signs."""
    return stellar.message_of(unsigned) if isinstance(intent, StellarIntent) else evm.message_of(unsigned)


def finish(
    intent: Intent,
    binding: Binding,
    unsigned: bytes,
    signature: bytes,
    public_key: bytes,
    networks: Mapping[str, str],
) -> tuple[bytes, str]:
    """Return the signed transaction and its hash (hex); raises HsmFault when the signature is not by `public_key`."""
    if isinstance(intent, StellarIntent):
        passphrase = stellar.check_network(intent, networks)
        return stellar.finish(unsigned, signature, public_key, intent, passphrase)
    if isinstance(binding, StellarBinding):
        raise _other_chain()
    return evm.finish(unsigned, signature, public_key, intent, binding)


def _other_chain() -> Refusal:
    return Refusal("bad_binding", "the binding is for another chain")
