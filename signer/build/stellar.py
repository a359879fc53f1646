"""The transaction of a Stellar intent: built with the SDK's classes, then read back from raw XDR and held against the intent.

One operation, which has a source of its own only when a channel lends the sequence number; always time bounds, no preconditions
beyond time and ledger bounds, nothing else. Source: SEP-23, CAP-21.
"""

import hashlib
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from stellar_sdk import (
    HashMemo,
    IdMemo,
    LedgerBounds,
    Memo,
    MuxedAccount,
    NoneMemo,
    Operation,
    Preconditions,
    TextMemo,
    TimeBounds,
    Transaction,
    TransactionEnvelope,
    xdr,
)

from signer.build import stellar_contract
from signer.build.stellar_operations import expected_effect, operation_of, read_account, read_effect
from signer.protocol.fields import INT64_MAX, payload_of
from signer.protocol.intent import (
    StellarAnchor,
    StellarChannelPayment,
    StellarContractPayment,
    StellarIntent,
    StellarOperation,
    StellarPathReceive,
    StellarPathSend,
    StellarPayment,
)
from signer.protocol.messages import ContractBinding, StellarBinding
from signer.refusal import HsmFault, Refusal

UINT32_MAX = 2**32 - 1

Signatures = Mapping[bytes, bytes]
"""Raw public key to signature, in the order in which they stand in the envelope."""


def check_network(intent: StellarIntent, networks: Mapping[str, str]) -> str:
    """Return the passphrase of the intent's chain; raises Refusal("unknown_network")."""
    passphrase = networks.get(intent.chain)
    if passphrase is None or hashlib.sha256(passphrase.encode()).hexdigest() != intent.network_id:
        raise Refusal("unknown_network", "the chain and its network id are not those of the policy")
    return passphrase


def frame_of(binding: StellarBinding | ContractBinding) -> StellarBinding:
    """Return the part that every Stellar transaction has."""
    return binding.frame if isinstance(binding, ContractBinding) else binding


def check_binding(intent: StellarOperation, binding: StellarBinding | ContractBinding, now: int) -> None:
    """Raise Refusal("bad_binding") unless the binding fits the kind and only narrows the intent."""
    if isinstance(intent, StellarContractPayment) != isinstance(binding, ContractBinding):
        raise Refusal("bad_binding", "resources are bound to a contract's call, and to nothing else")
    if isinstance(binding, ContractBinding):
        stellar_contract.check_resources(binding)
    frame = frame_of(binding)
    within = (
        1 <= frame.sequence <= INT64_MAX
        and now < frame.max_time <= intent.expires_at
        and 0 <= frame.min_ledger <= UINT32_MAX
        and 0 <= frame.max_ledger <= UINT32_MAX
        and (frame.max_ledger == 0 or frame.min_ledger < frame.max_ledger)
        and 100 <= frame.fee <= intent.max_fee
    )
    if not within:
        raise Refusal("bad_binding", "sequence, bounds or fee are outside what the intent allows")


def build_unsigned(
    intent: StellarOperation, binding: StellarBinding | ContractBinding, passphrase: str
) -> bytes:
    """Return the signature base: network id, envelope type and transaction, whose SHA-256 is signed."""
    frame = frame_of(binding)
    bounds = None
    if frame.min_ledger or frame.max_ledger:
        bounds = LedgerBounds(frame.min_ledger, frame.max_ledger)
    operation: Operation
    soroban_data = None
    if isinstance(intent, StellarContractPayment):
        operation = stellar_contract.call_of(intent, passphrase)
        if isinstance(binding, ContractBinding):
            soroban_data = stellar_contract.resources_of(intent, binding, passphrase)
    else:
        operation = operation_of(intent)
    transaction = Transaction(
        source=MuxedAccount.from_account(sender_of(intent)),
        sequence=frame.sequence,
        fee=frame.fee,
        operations=[operation],
        memo=_memo(intent),
        preconditions=Preconditions(time_bounds=TimeBounds(0, frame.max_time), ledger_bounds=bounds),
        soroban_data=soroban_data,
        v1=True,
    )
    unsigned = TransactionEnvelope(transaction, passphrase).signature_base()
    _check_fields(_transaction_of(unsigned, passphrase), intent, binding)
    return unsigned


def sender_of(intent: StellarOperation) -> str:
    """Return the source of the transaction, whose sequence number and fee it takes."""
    return intent.channel if isinstance(intent, StellarChannelPayment) else intent.source


def message_of(unsigned: bytes) -> bytes:
    """Return the 32 bytes that the keys sign, which are also the transaction's hash."""
    return hashlib.sha256(unsigned).digest()


def finish(
    unsigned: bytes,
    signatures: Signatures,
    intent: StellarOperation,
    passphrase: str,
    holder: bytes = b"",
) -> tuple[bytes, str]:
    """Return the TransactionEnvelope XDR and the transaction's hash (hex).

    `holder` is the key that signs for the source: b"" for its own, or one that the policy lets sign for it with others. Raises
    HsmFault unless exactly this one, and a channel's own, signed.
    """
    message = message_of(unsigned)
    sender = sender_of(intent)
    keys = {holder or payload_of(intent.source)}
    if sender != intent.source:
        keys.add(payload_of(sender))
    if set(signatures) != keys:
        raise HsmFault("the keys are not the sources'")
    v1 = xdr.TransactionV1Envelope(
        tx=_transaction_of(unsigned, passphrase), signatures=decorate(signatures, message)
    )
    envelope = xdr.TransactionEnvelope(type=xdr.EnvelopeType.ENVELOPE_TYPE_TX, v1=v1)
    return envelope.to_xdr_bytes(), message.hex()


def decorate(signatures: Signatures, message: bytes) -> list[xdr.DecoratedSignature]:
    """Verify each signature and add its key's hint; raises HsmFault."""
    for public_key, signature in signatures.items():
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        except InvalidSignature as error:
            raise HsmFault("the signature is not by the expected key") from error
    return [
        xdr.DecoratedSignature(xdr.SignatureHint(key[-4:]), xdr.Signature(signature))
        for key, signature in signatures.items()
    ]


def read_payload(unsigned: bytes, passphrase: str) -> xdr.TransactionSignaturePayloadTaggedTransaction:
    """Return what a signature base on this network holds; raises Refusal("bad_request")."""
    payload = xdr.TransactionSignaturePayload.from_xdr_bytes(unsigned)
    if payload.network_id.hash != hashlib.sha256(passphrase.encode()).digest():
        raise Refusal("bad_request", "the signature base is not one of this network")
    if payload.to_xdr_bytes() != unsigned:
        raise Refusal("bad_request", "the signature base has another encoding")
    return payload.tagged_transaction


def _memo(intent: StellarOperation) -> Memo:
    kind, text = _expected_memo(intent)
    if kind == "id":
        return IdMemo(int(text))
    if kind == "text":
        return TextMemo(text)
    return HashMemo(text) if kind == "hash" else NoneMemo()


def _transaction_of(unsigned: bytes, passphrase: str) -> xdr.Transaction:
    tagged = read_payload(unsigned, passphrase)
    if tagged.type is not xdr.EnvelopeType.ENVELOPE_TYPE_TX or tagged.tx is None:
        raise Refusal("bad_request", "the signature base is not one of a transaction")
    return tagged.tx


def _check_fields(
    tx: xdr.Transaction, intent: StellarOperation, binding: StellarBinding | ContractBinding
) -> None:
    """Compare what was built with the expected transaction, field by field; raises Refusal("bad_request")."""
    bound = frame_of(binding)
    ledgers = (bound.min_ledger, bound.max_ledger)
    frame = (
        read_account(tx.source_account) == payload_of(sender_of(intent))
        and tx.seq_num.sequence_number.int64 == bound.sequence
        and tx.fee.uint32 == bound.fee
        and _bounds_of(tx.cond) == (0, bound.max_time, ledgers if any(ledgers) else None)
        and len(tx.operations) == 1
        and _source_of(tx.operations[0]) == _expected_source(intent)
    )
    effect = _memo_of(tx.memo) == _expected_memo(intent) and _same_effect(tx, intent, binding)
    if not (frame and effect):
        raise Refusal("bad_request", "the transaction built is not the one approved")


def _same_effect(
    tx: xdr.Transaction, intent: StellarOperation, binding: StellarBinding | ContractBinding
) -> bool:
    body = tx.operations[0].body
    if not isinstance(intent, StellarContractPayment):
        return tx.ext.v == 0 and read_effect(body) == expected_effect(intent)
    network_id = bytes.fromhex(intent.network_id)
    return (
        isinstance(binding, ContractBinding)
        and tx.ext.v == 1
        and stellar_contract.same_call(body, intent, network_id)
        and stellar_contract.same_resources(tx.ext.soroban_data, intent, binding, network_id)
    )


def _source_of(operation: xdr.Operation) -> bytes:
    return b"" if operation.source_account is None else read_account(operation.source_account)


def _expected_source(intent: StellarOperation) -> bytes:
    return payload_of(intent.source) if isinstance(intent, StellarChannelPayment) else b""


def _bounds_of(cond: xdr.Preconditions) -> tuple[int, int, tuple[int, int] | None] | None:
    """Return (min time, max time, ledger bounds); None when any other precondition is present."""
    if cond.time_bounds is not None:
        times = cond.time_bounds
        return times.min_time.time_point.uint64, times.max_time.time_point.uint64, None
    v2 = cond.v2
    if v2 is None or v2.time_bounds is None or v2.min_seq_num is not None or v2.extra_signers:
        return None
    if v2.min_seq_age.duration.uint64 or v2.min_seq_ledger_gap.uint32 or v2.ledger_bounds is None:
        return None
    ledgers = (v2.ledger_bounds.min_ledger.uint32, v2.ledger_bounds.max_ledger.uint32)
    return v2.time_bounds.min_time.time_point.uint64, v2.time_bounds.max_time.time_point.uint64, ledgers


def _memo_of(memo: xdr.Memo) -> tuple[str, str]:
    if memo.id is not None:
        return "id", str(memo.id.uint64)
    if memo.text is not None:
        return "text", memo.text.decode("ascii")
    if memo.hash is not None:
        return "hash", memo.hash.hash.hex()
    return ("none", "") if memo.type is xdr.MemoType.MEMO_NONE else ("", "")


def _expected_memo(intent: StellarOperation) -> tuple[str, str]:
    if isinstance(intent, StellarPayment | StellarChannelPayment | StellarPathSend | StellarPathReceive):
        return intent.memo_type, intent.memo
    return ("hash", intent.hash) if isinstance(intent, StellarAnchor) else ("none", "")
