"""The transaction of a Stellar intent: packed field by field, then read back and held against the intent. Payments are read by
`stellar_reading`, all else by the SDK.

One operation, which has a source of its own only when a channel lends the sequence number; always time bounds, no preconditions
beyond time and ledger bounds, nothing else. Source: SEP-23, CAP-21.
"""

import hashlib
from collections.abc import Mapping
from functools import lru_cache

from stellar_sdk import xdr

from signer.build import stellar_contract
from signer.build.stellar_frame import pack_payment, pack_signature_base, pack_transaction
from signer.build.stellar_operations import expected_effect, operation_of, read_account, read_effect
from signer.build.stellar_reading import check_payment
from signer.ed25519 import is_ed25519
from signer.protocol.fields import INT64_MAX, payload_of
from signer.protocol.intent import (
    StellarAnchor,
    StellarChannelPayment,
    StellarContractPayment,
    StellarIntent,
    StellarOperation,
    StellarPayment,
)
from signer.protocol.intents.stellar_payments import Addressed
from signer.protocol.messages import ContractBinding, StellarBinding
from signer.refusal import HsmFault, Refusal

UINT32_MAX = 2**32 - 1

Signatures = Mapping[bytes, bytes]
"""Raw public key to signature, in the order in which they stand in the envelope."""


def check_network(intent: StellarIntent, networks: Mapping[str, str]) -> str:
    """Return the passphrase of the intent's chain; raises Refusal("unknown_network")."""
    passphrase = networks.get(intent.chain)
    if passphrase is None or network_id_of(passphrase).hex() != intent.network_id:
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
    resources = b""
    if isinstance(intent, StellarContractPayment):
        body = stellar_contract.call_of(intent, passphrase).to_xdr_object().body.to_xdr_bytes()
        if isinstance(binding, ContractBinding):
            resources = stellar_contract.resources_of(intent, binding, passphrase).to_xdr_bytes()
    elif isinstance(intent, StellarPayment | StellarChannelPayment):
        body = pack_payment(intent)
    else:
        body = operation_of(intent).to_xdr_object().body.to_xdr_bytes()
    transaction = pack_transaction(
        sender=sender_of(intent),
        binding=frame_of(binding),
        memo=_expected_memo(intent),
        source=intent.source if isinstance(intent, StellarChannelPayment) else "",
        body=body,
        resources=resources,
    )
    unsigned = pack_signature_base(network_id_of(passphrase), transaction)
    if isinstance(intent, StellarPayment | StellarChannelPayment):
        check_payment(unsigned, intent, frame_of(binding), sender_of(intent))
    else:
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
    return seal(unsigned, decorate(signatures, message), passphrase), message.hex()


def seal(unsigned: bytes, decorated: bytes, passphrase: str) -> bytes:
    """Return the TransactionEnvelope XDR: the signature base without its network id, which was read back when it was built,
    and the decorated signatures. Raises Refusal("bad_request").
    """
    network_id = network_id_of(passphrase)
    if not unsigned.startswith(network_id):
        raise Refusal("bad_request", "the signature base is not one of this network")
    return unsigned[len(network_id) :] + decorated


def decorate(signatures: Signatures, message: bytes) -> bytes:
    """Verify each signature and return the list of them, each with its key's hint; raises HsmFault."""
    for public_key, signature in signatures.items():
        if not is_ed25519(public_key, signature, message):
            raise HsmFault("the signature is not by the expected key")
    entries = [
        key[-4:] + len(signature).to_bytes(4, "big") + signature for key, signature in signatures.items()
    ]
    return len(entries).to_bytes(4, "big") + b"".join(entries)


@lru_cache(maxsize=64)
def network_id_of(passphrase: str) -> bytes:
    """Return the network's id."""
    return hashlib.sha256(passphrase.encode()).digest()


def read_payload(unsigned: bytes, passphrase: str) -> xdr.TransactionSignaturePayloadTaggedTransaction:
    """Return what a signature base on this network holds; raises Refusal("bad_request")."""
    payload = xdr.TransactionSignaturePayload.from_xdr_bytes(unsigned)
    if payload.network_id.hash != network_id_of(passphrase):
        raise Refusal("bad_request", "the signature base is not one of this network")
    if payload.to_xdr_bytes() != unsigned:
        raise Refusal("bad_request", "the signature base has another encoding")
    return payload.tagged_transaction


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
    if isinstance(intent, Addressed):
        return intent.memo_type, intent.memo
    return ("hash", intent.hash) if isinstance(intent, StellarAnchor) else ("none", "")
