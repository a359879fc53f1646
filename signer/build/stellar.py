"""The transaction of a Stellar intent: built with the SDK's classes, then read back from raw XDR and held
against the intent.

One operation without its own source, no preconditions beyond time and ledger bounds, nothing else. Source:
SEP-23, CAP-21.
"""

import hashlib
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from stellar_sdk import (
    Asset,
    ChangeTrust,
    HashMemo,
    IdMemo,
    LedgerBounds,
    Memo,
    MuxedAccount,
    NoneMemo,
    Payment,
    Preconditions,
    TextMemo,
    TimeBounds,
    Transaction,
    TransactionEnvelope,
    xdr,
)

from signer.protocol.fields import INT64_MAX, account_of, payload_of
from signer.protocol.intent import StellarAnchor, StellarChangeTrust, StellarIntent, StellarPayment
from signer.protocol.messages import StellarBinding
from signer.refusal import HsmFault, Refusal

STROOPS_PER_UNIT = 10**7
ANCHOR_STROOPS = 1
"""What an anchor pays to itself: the least that a payment can carry."""
UINT32_MAX = 2**32 - 1


def check_network(intent: StellarIntent, networks: Mapping[str, str]) -> str:
    """Return the passphrase of the intent's chain; raises Refusal("unknown_network")."""
    passphrase = networks.get(intent.chain)
    if passphrase is None or hashlib.sha256(passphrase.encode()).hexdigest() != intent.network_id:
        raise Refusal("unknown_network", "the chain and its network id are not those of the policy")
    return passphrase


def check_binding(intent: StellarIntent, binding: StellarBinding, now: int) -> None:
    """Raise Refusal("bad_binding") unless the binding only narrows the intent."""
    within = (
        1 <= binding.sequence <= INT64_MAX
        and now < binding.max_time <= intent.expires_at
        and 0 <= binding.min_ledger <= UINT32_MAX
        and 0 <= binding.max_ledger <= UINT32_MAX
        and (binding.max_ledger == 0 or binding.min_ledger < binding.max_ledger)
        and 100 <= binding.fee <= intent.max_fee
    )
    if not within:
        raise Refusal("bad_binding", "sequence, bounds or fee are outside what the intent allows")


def build_unsigned(intent: StellarIntent, binding: StellarBinding, passphrase: str) -> bytes:
    """Return the signature base: network id, envelope type and transaction, whose SHA-256 is signed."""
    bounds = None
    if binding.min_ledger or binding.max_ledger:
        bounds = LedgerBounds(binding.min_ledger, binding.max_ledger)
    transaction = Transaction(
        source=MuxedAccount.from_account(intent.source),
        sequence=binding.sequence,
        fee=binding.fee,
        operations=[_operation(intent)],
        memo=_memo(intent),
        preconditions=Preconditions(time_bounds=TimeBounds(0, binding.max_time), ledger_bounds=bounds),
        v1=True,
    )
    unsigned = TransactionEnvelope(transaction, passphrase).signature_base()
    _check_fields(_transaction_of(unsigned, passphrase), intent, binding)
    return unsigned


def message_of(unsigned: bytes) -> bytes:
    """Return the 32 bytes that the key signs, which are also the transaction's hash."""
    return hashlib.sha256(unsigned).digest()


def finish(
    unsigned: bytes, signature: bytes, public_key: bytes, intent: StellarIntent, passphrase: str
) -> tuple[bytes, str]:
    """Return the TransactionEnvelope XDR and the transaction's hash (hex).

    Raises HsmFault when the signature is not by `public_key`.
    """
    message = message_of(unsigned)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature as error:
        raise HsmFault("the signature is not by the expected key") from error
    if account_of(intent.source) != public_key:
        raise HsmFault("the key is not the source's")
    decorated = xdr.DecoratedSignature(xdr.SignatureHint(public_key[-4:]), xdr.Signature(signature))
    v1 = xdr.TransactionV1Envelope(tx=_transaction_of(unsigned, passphrase), signatures=[decorated])
    envelope = xdr.TransactionEnvelope(type=xdr.EnvelopeType.ENVELOPE_TYPE_TX, v1=v1)
    return envelope.to_xdr_bytes(), message.hex()


def _operation(intent: StellarIntent) -> Payment | ChangeTrust:
    if isinstance(intent, StellarChangeTrust):
        return ChangeTrust(asset=_asset(intent.asset), limit=_units(intent.limit))
    if isinstance(intent, StellarAnchor):
        return Payment(
            destination=MuxedAccount.from_account(intent.source),
            asset=Asset.native(),
            amount=_units(ANCHOR_STROOPS),
        )
    return Payment(
        destination=MuxedAccount.from_account(intent.destination),
        asset=_asset(intent.asset),
        amount=_units(intent.amount),
    )


def _asset(text: str) -> Asset:
    if text == "native":
        return Asset.native()
    code, _, issuer = text.partition(":")
    return Asset(code, issuer)


def _units(stroops: int) -> str:
    return f"{stroops // STROOPS_PER_UNIT}.{stroops % STROOPS_PER_UNIT:07d}"


def _memo(intent: StellarIntent) -> Memo:
    if isinstance(intent, StellarAnchor):
        return HashMemo(intent.hash)
    if isinstance(intent, StellarChangeTrust) or intent.memo_type == "none":
        return NoneMemo()
    if intent.memo_type == "id":
        return IdMemo(int(intent.memo))
    if intent.memo_type == "text":
        return TextMemo(intent.memo)
    return HashMemo(intent.memo)


def _transaction_of(unsigned: bytes, passphrase: str) -> xdr.Transaction:
    payload = xdr.TransactionSignaturePayload.from_xdr_bytes(unsigned)
    tagged = payload.tagged_transaction
    on_network = payload.network_id.hash == hashlib.sha256(passphrase.encode()).digest()
    if not on_network or tagged.type is not xdr.EnvelopeType.ENVELOPE_TYPE_TX or tagged.tx is None:
        raise Refusal("bad_request", "the signature base is not one of a transaction on this network")
    if payload.to_xdr_bytes() != unsigned:
        raise Refusal("bad_request", "the signature base has another encoding")
    return tagged.tx


def _check_fields(tx: xdr.Transaction, intent: StellarIntent, binding: StellarBinding) -> None:
    """Compare what was built with the expected transaction, field by field; raises Refusal("bad_request")."""
    ledgers = (binding.min_ledger, binding.max_ledger)
    frame = (
        _same_account(tx.source_account, intent.source)
        and tx.seq_num.sequence_number.int64 == binding.sequence
        and tx.fee.uint32 == binding.fee
        and _bounds_of(tx.cond) == (0, binding.max_time, ledgers if any(ledgers) else None)
        and tx.ext.v == 0
        and len(tx.operations) == 1
        and tx.operations[0].source_account is None
    )
    effect = _memo_of(tx.memo) == _expected_memo(intent) and _same_effect(tx.operations[0].body, intent)
    if not (frame and effect):
        raise Refusal("bad_request", "the transaction built is not the one approved")


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


def _expected_memo(intent: StellarIntent) -> tuple[str, str]:
    if isinstance(intent, StellarPayment):
        return intent.memo_type, intent.memo
    return ("hash", intent.hash) if isinstance(intent, StellarAnchor) else ("none", "")


def _same_effect(body: xdr.OperationBody, intent: StellarIntent) -> bool:
    if isinstance(intent, StellarChangeTrust):
        trust = body.change_trust_op
        if body.type is not xdr.OperationType.CHANGE_TRUST or trust is None:
            return False
        return _same_asset(trust.line, intent.asset) and trust.limit.int64 == intent.limit
    payment = body.payment_op
    if body.type is not xdr.OperationType.PAYMENT or payment is None:
        return False
    if isinstance(intent, StellarAnchor):
        return (
            _same_account(payment.destination, intent.source)
            and _same_asset(payment.asset, "native")
            and payment.amount.int64 == ANCHOR_STROOPS
        )
    return (
        _same_account(payment.destination, intent.destination)
        and _same_asset(payment.asset, intent.asset)
        and payment.amount.int64 == intent.amount
    )


def _same_account(account: xdr.MuxedAccount, address: str) -> bool:
    """Compare an XDR account with a G or M address by their raw bytes."""
    if account.med25519 is not None:
        muxed = account.med25519
        return muxed.ed25519.uint256 + muxed.id.uint64.to_bytes(8, "big") == payload_of(address)
    return account.ed25519 is not None and account.ed25519.uint256 == payload_of(address)


def _same_asset(asset: xdr.Asset | xdr.ChangeTrustAsset, text: str) -> bool:
    """Compare an XDR asset with "native" or "CODE:ISSUER" by raw bytes; the code is zero-padded to 4 or 12."""
    if text == "native":
        return asset.type is xdr.AssetType.ASSET_TYPE_NATIVE
    code, _, issuer = text.partition(":")
    raw, key = code.encode("ascii"), account_of(issuer)
    if asset.alpha_num4 is not None:
        four = asset.alpha_num4
        return four.asset_code.asset_code4 == raw.ljust(4, b"\0") and _key_of(four.issuer) == key
    if asset.alpha_num12 is not None:
        twelve = asset.alpha_num12
        padded = twelve.asset_code.asset_code12 == raw.ljust(12, b"\0")
        return len(raw) > 4 and padded and _key_of(twelve.issuer) == key
    return False


def _key_of(account: xdr.AccountID) -> bytes:
    key = account.account_id.ed25519
    return b"" if key is None else key.uint256
