"""A submitted envelope, taken apart once: hashes, sources, fee bid, bounds and signatures.

Accepts v1 transactions and fee bumps. The v0 form is history on the real network and is refused here by name.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from stellar_sdk import xdr
from xdrlib3 import Error as XdrlibError


class EnvelopeInvalid(ValueError):
    """The text is no transaction envelope; the RPC answers invalid_xdr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeBump:
    """The outer part of a fee bump."""

    source: bytes
    fee: int
    signatures: tuple[xdr.DecoratedSignature, ...]
    contents_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One transaction as the network handles it; a fee bump carries its inner transaction in the same frame."""

    envelope: xdr.TransactionEnvelope
    tx: xdr.Transaction
    """The (inner) transaction."""
    signatures: tuple[xdr.DecoratedSignature, ...]
    """Signatures on the (inner) transaction."""
    contents_hash: bytes
    """Hash that the (inner) signatures sign."""
    fee_bump: FeeBump | None
    full_hash: bytes
    """sha256 of the whole envelope: sorts the transaction set and keys the queue's ban list."""

    @property
    def tx_hash(self) -> bytes:
        """The hash clients know the transaction by (the outer one of a fee bump)."""
        return self.contents_hash if self.fee_bump is None else self.fee_bump.contents_hash

    @property
    def source(self) -> bytes:
        return muxed_raw(self.tx.source_account)

    @property
    def seq(self) -> int:
        return self.tx.seq_num.sequence_number.int64

    @property
    def fee_source(self) -> bytes:
        return self.source if self.fee_bump is None else self.fee_bump.source

    @property
    def bid(self) -> int:
        """Stroops the payer allows at most."""
        return self.tx.fee.uint32 if self.fee_bump is None else self.fee_bump.fee

    @property
    def fee_units(self) -> int:
        """How many base fees the transaction costs: its operations, plus one for a fee bump."""
        return len(self.tx.operations) + (0 if self.fee_bump is None else 1)

    def bounds(self) -> "Bounds":
        return _bounds(self.tx.cond)

    def operation_source(self, index: int) -> xdr.MuxedAccount:
        own = self.tx.operations[index].source_account
        return self.tx.source_account if own is None else own


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A transaction's preconditions; zero and None mean unlimited."""

    min_time: int = 0
    max_time: int = 0
    min_ledger: int = 0
    max_ledger: int = 0
    """First ledger in which the transaction may no longer apply (exclusive)."""
    min_seq: int | None = None
    min_seq_age_s: int = 0
    min_seq_ledger_gap: int = 0
    extra_signers: tuple[xdr.SignerKey, ...] = ()


def parse_envelope(text: str, network_id: bytes) -> Frame:
    """Decode base64 XDR. Raises EnvelopeInvalid."""
    try:
        raw = base64.b64decode(text, validate=True)
        envelope = xdr.TransactionEnvelope.from_xdr_bytes(raw)
    except (binascii.Error, ValueError, EOFError, XdrlibError) as error:
        raise EnvelopeInvalid("not a base64 TransactionEnvelope") from error
    return frame_of(envelope, network_id)


def frame_of(envelope: xdr.TransactionEnvelope, network_id: bytes) -> Frame:
    full_hash = hashlib.sha256(envelope.to_xdr_bytes()).digest()
    if envelope.v1 is not None:
        v1, bump = envelope.v1, None
    elif envelope.fee_bump is not None and envelope.fee_bump.tx.inner_tx.v1 is not None:
        v1 = envelope.fee_bump.tx.inner_tx.v1
        bump = FeeBump(
            source=muxed_raw(envelope.fee_bump.tx.fee_source),
            fee=envelope.fee_bump.tx.fee.int64,
            signatures=tuple(envelope.fee_bump.signatures),
            contents_hash=_payload_hash(network_id, fee_bump=envelope.fee_bump.tx),
        )
    else:
        raise EnvelopeInvalid(f"{envelope.type.name} is not accepted: send a v1 transaction or a fee bump")
    return Frame(
        envelope=envelope,
        tx=v1.tx,
        signatures=tuple(v1.signatures),
        contents_hash=_payload_hash(network_id, tx=v1.tx),
        fee_bump=bump,
        full_hash=full_hash,
    )


def muxed_raw(account: xdr.MuxedAccount) -> bytes:
    """The raw account key under a G or M address."""
    if account.ed25519 is not None:
        return account.ed25519.uint256
    if account.med25519 is not None:
        return account.med25519.ed25519.uint256
    raise EnvelopeInvalid("muxed account without a key")


def _payload_hash(
    network_id: bytes, *, tx: xdr.Transaction | None = None, fee_bump: xdr.FeeBumpTransaction | None = None
) -> bytes:
    kind = (
        xdr.EnvelopeType.ENVELOPE_TYPE_TX if fee_bump is None else xdr.EnvelopeType.ENVELOPE_TYPE_TX_FEE_BUMP
    )
    payload = xdr.TransactionSignaturePayload(
        xdr.Hash(network_id),
        xdr.TransactionSignaturePayloadTaggedTransaction(kind, tx=tx, fee_bump=fee_bump),
    )
    return hashlib.sha256(payload.to_xdr_bytes()).digest()


def _bounds(cond: xdr.Preconditions) -> Bounds:
    times = cond.time_bounds if cond.v2 is None else cond.v2.time_bounds
    min_time = 0 if times is None else times.min_time.time_point.uint64
    max_time = 0 if times is None else times.max_time.time_point.uint64
    if cond.v2 is None:
        return Bounds(min_time=min_time, max_time=max_time)
    ledgers, min_seq = cond.v2.ledger_bounds, cond.v2.min_seq_num
    return Bounds(
        min_time=min_time,
        max_time=max_time,
        min_ledger=0 if ledgers is None else ledgers.min_ledger.uint32,
        max_ledger=0 if ledgers is None else ledgers.max_ledger.uint32,
        min_seq=None if min_seq is None else min_seq.sequence_number.int64,
        min_seq_age_s=cond.v2.min_seq_age.duration.uint64,
        min_seq_ledger_gap=cond.v2.min_seq_ledger_gap.uint32,
        extra_signers=tuple(cond.v2.extra_signers),
    )
