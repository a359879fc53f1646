"""A closed Stellar ledger turned into the facts of a block. Pure.

LedgerCloseMeta is the only truth: what a transaction did stands in its meta, not in its envelope. The envelope tells only who
sent it and who paid. Source: Stellar XDR (Stellar-ledger.x); CAP-67; CAP-15 (fee bumps).
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from datetime import UTC, datetime

from stellar_sdk import StrKey, xdr

from custody.kernel.assetid import AssetId, ChainId
from ingestion.errors import BrokenHashChain, MetaWithoutEvents, UnreadableLedger
from ingestion.model import BlockFacts, BlockRef, ChainTransaction, Departure, Discrepancy, Movement
from ingestion.stellar.movements import EventReader, TokenEvent, sum_changes, sum_events

_OPS_BITS = 16
"""An ordinal is the operation's number above, the event's place within it below: 16 bits hold any meta that fits a ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionPart:
    """One transaction's share of a ledger, in apply order."""

    tx_hash: str
    result: xdr.TransactionResult
    meta: xdr.TransactionMetaV4
    changes: tuple[xdr.LedgerEntryChanges, ...]
    """Every list of entry changes in the order they were applied: fee, before, operations, after, refund."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sender:
    """Who stands behind a transaction."""

    tx_hash: str
    """Of what the sender signed: the inner transaction of a fee bump, else the transaction itself."""
    account: str
    """Source of the (inner) transaction: whose sequence number it used."""
    fee_account: str
    """Who paid: the same, or the outer source of a fee bump."""
    sequence: int


def normalize(data: bytes, chain: ChainId, network_passphrase: str, reader: EventReader) -> BlockFacts:
    """The facts of one ledger from its LedgerCloseMeta bytes.

    Raises UnreadableLedger, BrokenHashChain (the hash is not the header's), MetaWithoutEvents.
    """
    ledger = open_ledger(data)
    movements: list[Movement] = []
    departures: list[Departure] = []
    transactions: list[ChainTransaction] = []
    discrepancies: list[Discrepancy] = []
    senders = _senders(ledger, hashlib.sha256(network_passphrase.encode()).digest())
    for part in transaction_parts(ledger):
        events = reader.read(part.meta)
        movements.extend(_arrivals(chain, part.tx_hash, events))
        departures.extend(_departures(chain, part.tx_hash, events))
        discrepancies.extend(_discrepancies(part, events))
        sender = senders.get(part.tx_hash)
        if sender is None:
            raise UnreadableLedger(tx_hash=part.tx_hash, reason="a result without its envelope")
        transactions.extend(_transactions(part, sender, events))
    return BlockFacts(
        ref=block_ref(ledger),
        movements=tuple(movements),
        departures=tuple(departures),
        transactions=tuple(transactions),
        discrepancies=tuple(discrepancies),
    )


def open_ledger(data: bytes) -> xdr.LedgerCloseMeta:
    """Decode one LedgerCloseMeta to its last byte. Raises UnreadableLedger."""
    try:
        return xdr.LedgerCloseMeta.from_xdr_bytes(data)
    except (ValueError, EOFError, OverflowError, RecursionError) as error:
        raise UnreadableLedger(bytes=len(data), reason=str(error)[:200]) from error


def block_ref(ledger: xdr.LedgerCloseMeta) -> BlockRef:
    """The ledger's place in the chain, its hash proved from its header. Raises BrokenHashChain."""
    entry = _body(ledger).ledger_header
    header = entry.header
    height = header.ledger_seq.uint32
    if hashlib.sha256(header.to_xdr_bytes()).digest() != entry.hash.hash:
        raise BrokenHashChain(height=height, reason="the hash is not the header's")
    closed = header.scp_value.close_time.time_point.uint64
    return BlockRef(
        height=height,
        hash=entry.hash.hash.hex(),
        parent_hash=header.previous_ledger_hash.hash.hex(),
        closed_at=datetime.fromtimestamp(closed, UTC),
    )


def transaction_parts(ledger: xdr.LedgerCloseMeta) -> list[TransactionPart]:
    """The transactions in apply order. Raises MetaWithoutEvents when one has meta older than V4."""
    body = _body(ledger)
    parts = []
    for processed in body.tx_processing:
        tx_hash = processed.result.transaction_hash.hash.hex()
        meta = processed.tx_apply_processing.v4
        if meta is None:
            version = processed.tx_apply_processing.v
            raise MetaWithoutEvents(
                height=body.ledger_header.header.ledger_seq.uint32, tx_hash=tx_hash, version=version
            )
        after = (
            (processed.post_tx_apply_fee_processing,)
            if isinstance(processed, xdr.TransactionResultMetaV1)
            else ()
        )
        parts.append(
            TransactionPart(
                tx_hash=tx_hash,
                result=processed.result.result,
                meta=meta,
                changes=(
                    processed.fee_processing,
                    meta.tx_changes_before,
                    *(operation.changes for operation in meta.operations),
                    meta.tx_changes_after,
                    *after,
                ),
            )
        )
    return parts


def _body(
    ledger: xdr.LedgerCloseMeta,
) -> xdr.LedgerCloseMetaV0 | xdr.LedgerCloseMetaV1 | xdr.LedgerCloseMetaV2:
    body = ledger.v2 or ledger.v1 or ledger.v0
    if body is None:
        raise UnreadableLedger(reason="no ledger in the meta")
    return body


def _arrivals(chain: ChainId, tx_hash: str, events: list[TokenEvent]) -> list[Movement]:
    """Transfers and mints: what may be a deposit of the destination."""
    return [
        Movement(
            tx_hash=tx_hash,
            ordinal=(event.op_index or 0) << _OPS_BITS | event.position,
            asset=AssetId(chain, event.asset),
            source=event.source,
            account=event.destination,
            tag=event.tag,
            memo=event.memo,
            amount=event.amount,
        )
        for event in events
        if event.destination and event.amount > 0
    ]


def _departures(chain: ChainId, tx_hash: str, events: list[TokenEvent]) -> list[Departure]:
    """Transfers, burns and clawbacks from the view of the source; fees are told with the transaction."""
    return [
        Departure(
            tx_hash=tx_hash,
            asset=AssetId(chain, event.asset),
            account=event.source,
            amount=event.amount,
        )
        for event in events
        if event.source and event.kind != "fee" and event.amount > 0
    ]


def _discrepancies(part: TransactionPart, events: list[TokenEvent]) -> list[Discrepancy]:
    reported, changed = sum_events(events), sum_changes(part.changes)
    return [
        Discrepancy(
            tx_hash=part.tx_hash,
            account=account,
            asset=asset,
            reported=reported.get((account, asset), 0),
            changed=changed.get((account, asset), 0),
        )
        for account, asset in sorted(reported.keys() | changed.keys())
        if reported.get((account, asset), 0) != changed.get((account, asset), 0)
    ]


def _transactions(part: TransactionPart, sender: Sender, events: list[TokenEvent]) -> list[ChainTransaction]:
    fee = sum(event.amount for event in events if event.kind == "fee")
    code = part.result.result.code
    succeeded = code in (
        xdr.TransactionResultCode.txSUCCESS,
        xdr.TransactionResultCode.txFEE_BUMP_INNER_SUCCESS,
    )
    own = ChainTransaction(
        tx_hash=sender.tx_hash,
        carrier_hash=part.tx_hash,
        account=sender.account,
        succeeded=succeeded,
        fee_atomic=fee if sender.fee_account == sender.account else 0,
        sequence=sender.sequence,
    )
    if sender.fee_account == sender.account:
        return [own]
    payer = ChainTransaction(
        tx_hash=part.tx_hash,
        carrier_hash=part.tx_hash,
        account=sender.fee_account,
        succeeded=succeeded,
        fee_atomic=fee,
        sequence=0,
    )
    return [own, payer]


def _senders(ledger: xdr.LedgerCloseMeta, network_id: bytes) -> dict[str, Sender]:
    """Who sent each transaction, by its hash: the set and the results stand in different orders."""
    return dict(_sender(envelope, network_id) for envelope in _envelopes(ledger))


def _sender(envelope: xdr.TransactionEnvelope, network_id: bytes) -> tuple[str, Sender]:
    """Hash and sender of one envelope. Source: Stellar-transaction.x, TransactionSignaturePayload."""
    if envelope.fee_bump is not None:
        bump = envelope.fee_bump.tx
        inner = bump.inner_tx.v1
        if inner is None:
            raise UnreadableLedger(reason="a fee bump around no transaction")
        sender = Sender(
            tx_hash=_hash(network_id, xdr.EnvelopeType.ENVELOPE_TYPE_TX, inner.tx.to_xdr_bytes()),
            account=_account(inner.tx.source_account),
            fee_account=_account(bump.fee_source),
            sequence=inner.tx.seq_num.sequence_number.int64,
        )
        return _hash(network_id, xdr.EnvelopeType.ENVELOPE_TYPE_TX_FEE_BUMP, bump.to_xdr_bytes()), sender
    if envelope.v1 is not None:
        tx = envelope.v1.tx
        source, sequence, body = (
            _account(tx.source_account),
            tx.seq_num.sequence_number.int64,
            tx.to_xdr_bytes(),
        )
    elif envelope.v0 is not None:
        old = envelope.v0.tx
        source = StrKey.encode_ed25519_public_key(old.source_account_ed25519.uint256)
        # A V0 transaction is hashed as V1: the same bytes behind the key type, which is zero for Ed25519.
        sequence, body = old.seq_num.sequence_number.int64, bytes(4) + old.to_xdr_bytes()
    else:
        raise UnreadableLedger(reason="an envelope of unknown type")
    tx_hash = _hash(network_id, xdr.EnvelopeType.ENVELOPE_TYPE_TX, body)
    return tx_hash, Sender(tx_hash=tx_hash, account=source, fee_account=source, sequence=sequence)


def _hash(network_id: bytes, kind: xdr.EnvelopeType, body: bytes) -> str:
    return hashlib.sha256(network_id + struct.pack(">i", kind.value) + body).hexdigest()


def _account(account: xdr.MuxedAccount) -> str:
    key = account.ed25519 or (account.med25519.ed25519 if account.med25519 is not None else None)
    if key is None:
        raise UnreadableLedger(reason="an account without key")
    return StrKey.encode_ed25519_public_key(key.uint256)


def _envelopes(ledger: xdr.LedgerCloseMeta) -> list[xdr.TransactionEnvelope]:
    tx_set = _body(ledger).tx_set
    if isinstance(tx_set, xdr.TransactionSet):
        return tx_set.txs
    found: list[xdr.TransactionEnvelope] = []
    for phase in tx_set.v1_tx_set.phases if tx_set.v1_tx_set is not None else []:
        for component in phase.v0_components or []:
            if component.txs_maybe_discounted_fee is not None:
                found.extend(component.txs_maybe_discounted_fee.txs)
        if phase.parallel_txs_component is not None:
            for stage in phase.parallel_txs_component.execution_stages:
                for cluster in stage.parallel_tx_execution_stage:
                    found.extend(cluster.dependent_tx_cluster)
    return found
