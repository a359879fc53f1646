"""Who stands behind a transaction: envelopes by the hash under which the ledger tells of them. Pure.

The set of transactions and their results stand in different orders, and only the hash joins them. Envelopes are hashed where they
lie; the SDK decodes those that are asked for. Source: Stellar-transaction.x (TransactionSignaturePayload); CAP-15 (fee bumps).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from stellar_sdk import xdr

from ingestion.errors import UnreadableLedger
from ingestion.stellar.holders import account_name
from ingestion.stellar.scan.ledger import ScannedLedger, Span, walker
from ingestion.stellar.scan.walk import DEPTH_MAX

_V0, _V1, _FEE_BUMP = 0, 2, 5
"""EnvelopeType of what a transaction set may hold."""
_BODIES = {_V0: "TransactionV0", _V1: "Transaction", _FEE_BUMP: "FeeBumpTransaction"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who stands behind a transaction, and what they signed."""

    tx_hash: str
    """Of what the sender signed: the inner transaction of a fee bump, else the transaction itself."""
    account: str
    """Source of the (inner) transaction: whose sequence number it used."""
    fee_account: str
    """Who paid: the same, or the outer source of a fee bump."""
    sequence: int
    operations: tuple[xdr.Operation, ...]
    memo: xdr.Memo


def locate_envelopes(ledger: ScannedLedger, network_id: bytes) -> dict[bytes, Span]:
    """Where each transaction's envelope lies, by the transaction's hash."""
    return {envelope_hash(ledger.data, at, network_id): (at, end) for at, end in ledger.envelopes}


def envelope_hash(data: bytes, at: int, network_id: bytes) -> bytes:
    """What the envelope at this offset is called: the hash of what its signatures sign."""
    (kind,) = struct.unpack_from(">i", data, at)
    body = at + 4
    end = walker().skip(_BODIES[kind])(data, body, DEPTH_MAX)
    return _hash(network_id, kind, data[body:end])


def read_sender(data: bytes, envelope: Span, network_id: bytes) -> Sender:
    """Who sent the envelope that lies here. Raises UnreadableLedger."""
    found = xdr.TransactionEnvelope.from_xdr_bytes(data[slice(*envelope)])
    if found.fee_bump is not None:
        bump = found.fee_bump.tx
        if bump.inner_tx.v1 is None:
            raise UnreadableLedger(reason="a fee bump around no transaction")
        inner = bump.inner_tx.v1.tx
        return _sender(inner, _hash(network_id, _V1, inner.to_xdr_bytes()), name_account(bump.fee_source))
    tx = found.v1.tx if found.v1 is not None else found.v0.tx if found.v0 is not None else None
    if tx is None:
        raise UnreadableLedger(reason="an envelope of unknown type")
    return _sender(tx, envelope_hash(data, envelope[0], network_id), None)


def name_account(account: xdr.MuxedAccount) -> str:
    """The G address of an account, muxed or not. Raises UnreadableLedger."""
    key = account.ed25519 or (account.med25519.ed25519 if account.med25519 is not None else None)
    if key is None:
        raise UnreadableLedger(reason="an account without key")
    return account_name(key.uint256)


def _sender(tx: xdr.Transaction | xdr.TransactionV0, tx_hash: bytes, fee_account: str | None) -> Sender:
    source = (
        account_name(tx.source_account_ed25519.uint256)
        if isinstance(tx, xdr.TransactionV0)
        else name_account(tx.source_account)
    )
    return Sender(
        tx_hash=tx_hash.hex(),
        account=source,
        fee_account=fee_account or source,
        sequence=tx.seq_num.sequence_number.int64,
        operations=tuple(tx.operations),
        memo=tx.memo,
    )


def _hash(network_id: bytes, kind: int, body: bytes) -> bytes:
    if kind == _V0:
        # A V0 transaction is hashed as V1: the same bytes behind the key type, which is zero for Ed25519.
        kind, body = _V1, bytes(4) + body
    return hashlib.sha256(network_id + struct.pack(">i", kind) + body).digest()
