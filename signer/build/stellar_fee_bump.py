"""The fee bump around a transaction that this signer has signed. Source: CAP-15."""

from stellar_sdk import FeeBumpTransaction, FeeBumpTransactionEnvelope, MuxedAccount, TransactionEnvelope, xdr

from signer.build.stellar import Signatures, decorate, message_of, read_payload, seal
from signer.build.stellar_operations import read_account
from signer.protocol.fields import payload_of
from signer.protocol.intent import StellarFeeBump
from signer.protocol.messages import FeeBinding
from signer.refusal import HsmFault, Refusal

FEE_MIN = 200
"""Stroops: the base fee for the inner operation and one for the bump."""


def check_binding(intent: StellarFeeBump, binding: FeeBinding) -> None:
    """Raise Refusal("bad_binding") unless the fee is within the intent's cap. Whether it is enough the network judges."""
    if not FEE_MIN <= binding.fee <= intent.max_fee:
        raise Refusal("bad_binding", "the fee is outside what the intent allows")


def build_unsigned(intent: StellarFeeBump, binding: FeeBinding, inner: bytes, passphrase: str) -> bytes:
    """Return the signature base around `inner`, a signed TransactionEnvelope of the signer's own record."""
    envelope = TransactionEnvelope.from_xdr_object(xdr.TransactionEnvelope.from_xdr_bytes(inner), passphrase)
    bump = FeeBumpTransaction(MuxedAccount.from_account(intent.source), binding.fee, envelope)
    unsigned = FeeBumpTransactionEnvelope(bump, passphrase).signature_base()
    _check_fields(_fee_bump_of(unsigned, passphrase), intent, binding, inner)
    return unsigned


def finish(
    unsigned: bytes, signatures: Signatures, intent: StellarFeeBump, passphrase: str
) -> tuple[bytes, str]:
    """Return the TransactionEnvelope XDR and its hash (hex); raises HsmFault unless exactly the source signed."""
    if set(signatures) != {payload_of(intent.source)}:
        raise HsmFault("the key is not the source's")
    message = message_of(unsigned)
    return seal(unsigned, decorate(signatures, message), passphrase), message.hex()


def _fee_bump_of(unsigned: bytes, passphrase: str) -> xdr.FeeBumpTransaction:
    tagged = read_payload(unsigned, passphrase)
    if tagged.type is not xdr.EnvelopeType.ENVELOPE_TYPE_TX_FEE_BUMP or tagged.fee_bump is None:
        raise Refusal("bad_request", "the signature base is not one of a fee bump")
    return tagged.fee_bump


def _check_fields(
    bump: xdr.FeeBumpTransaction, intent: StellarFeeBump, binding: FeeBinding, inner: bytes
) -> None:
    """Compare what was built with what was approved; raises Refusal("bad_request")."""
    v1 = bump.inner_tx.v1
    same = (
        read_account(bump.fee_source) == payload_of(intent.source)
        and bump.fee.int64 == binding.fee
        and bump.ext.v == 0
        and v1 is not None
        and xdr.TransactionEnvelope(xdr.EnvelopeType.ENVELOPE_TYPE_TX, v1=v1).to_xdr_bytes() == inner
    )
    if not same:
        raise Refusal("bad_request", "the fee bump built is not the one approved")
