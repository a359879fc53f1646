"""A closed Stellar ledger turned into the facts of a block, as far as they concern us. Pure.

LedgerCloseMeta is the only truth: what a transaction did stands in its meta, not in its envelope. The envelope tells who sent it
and who paid, and for old ledgers what was asked. Source: Stellar XDR (Stellar-ledger.x); CAP-67; CAP-15 (fee bumps).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from datetime import UTC, datetime

from stellar_sdk import StrKey, xdr

from custody.chains.stellar.results import name_result
from custody.kernel.assetid import AssetId, ChainId, sep41
from ingestion.errors import UnprovedTransaction, UnreadableLedger
from ingestion.model import BlockFacts, BlockRef, ChainTransaction, Departure, Discrepancy, Movement
from ingestion.stellar.derive.events import derive_events
from ingestion.stellar.holders import account_name, contract_name
from ingestion.stellar.movements import UNIFIED, EventReader, TokenEvent
from ingestion.stellar.prove import demand_unbroken_entries, find_discrepancies
from ingestion.stellar.scan.ledger import ScannedLedger, ScannedTransaction, Span, envelope_sources
from ingestion.stellar.senders import Sender, envelope_hash, locate_envelopes, read_sender
from ingestion.stellar.state import read_state

_OPS_BITS = 16
"""An ordinal is the operation's number above, the event's place within it below: 16 bits hold any meta that fits a ledger."""


def named_holders(ledger: ScannedLedger) -> frozenset[str]:
    """Every account and contract that the ledger names: what is compared with our vaults."""
    accounts = map(account_name, (key for key in ledger.account_keys() if len(key) == 32))
    return frozenset(accounts) | frozenset(map(contract_name, ledger.contract_ids()))


def normalize(
    ledger: ScannedLedger, chain: ChainId, reader: EventReader, ours: Collection[str], *, audit: bool = False
) -> BlockFacts:
    """What one ledger did to these accounts. An audit proves every transaction of it, and raises UnprovedTransaction.

    Raises UnreadableLedger. Discrepancies of our own accounts are told, for whoever books the block to refuse.
    """
    try:
        return _normalize(ledger, chain, reader, frozenset(ours), audit=audit)
    except (ValueError, EOFError, OverflowError, RecursionError) as error:
        # What the walk accepts the SDK may still refuse: an asset code with a blank, a text that is no UTF-8.
        raise UnreadableLedger(height=ledger.height, reason=str(error)[:200]) from error


def block_ref(ledger: ScannedLedger) -> BlockRef:
    """The ledger's place in the chain. Raises UnreadableLedger for a time that no calendar holds."""
    try:
        closed = datetime.fromtimestamp(ledger.close_time, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UnreadableLedger(height=ledger.height, close_time=ledger.close_time) from error
    return BlockRef(
        height=ledger.height, hash=ledger.hash.hex(), parent_hash=ledger.parent_hash.hex(), closed_at=closed
    )


def touched(ledger: ScannedLedger, ours: Collection[str], network_id: bytes) -> Iterator[ScannedTransaction]:
    """The transactions that may concern these accounts, in apply order. More than do, never fewer."""
    keys = {StrKey.decode_ed25519_public_key(each) for each in ours if each.startswith("G")}
    contracts = {StrKey.decode_contract(each) for each in ours if each.startswith("C")}
    sent = _sent_by(ledger, keys, network_id)
    for scanned in ledger.transactions:
        if (
            not keys.isdisjoint(scanned.keys)
            or not contracts.isdisjoint(scanned.contracts)
            or scanned.hash in sent
            or (ours and _moves_unseen(scanned))
        ):
            yield scanned


def _normalize(
    ledger: ScannedLedger, chain: ChainId, reader: EventReader, ours: frozenset[str], *, audit: bool
) -> BlockFacts:
    network_id = hashlib.sha256(reader.network_passphrase.encode()).digest()
    concerned = list(ledger.transactions) if audit else list(touched(ledger, ours, network_id))
    envelopes = locate_envelopes(ledger, network_id) if concerned else {}
    movements: list[Movement] = []
    departures: list[Departure] = []
    transactions: list[ChainTransaction] = []
    discrepancies: list[Discrepancy] = []
    spoken: dict[str, str] = {}
    for scanned in concerned:
        sender = _sender(ledger, scanned, envelopes, network_id)
        events = read_movements(ledger, scanned, sender, reader)
        found = find_discrepancies(ledger, scanned, events, None if audit else ours)
        if audit and found:
            raise _unproved(ledger, found[0])
        discrepancies.extend(found)
        spoken.update((each.contract, each.asset) for each in events if each.asset != each.contract)
        tx_hash = scanned.hash.hex()
        movements.extend(_arrivals(chain, tx_hash, events, ours))
        departures.extend(_departures(chain, tx_hash, events, ours))
        transactions.extend(_transactions(ledger, scanned, sender, events, ours))
    passed = demand_unbroken_entries(ledger, concerned, None if audit else ours)
    return BlockFacts(
        ref=block_ref(ledger),
        movements=tuple(movements),
        departures=tuple(departures),
        transactions=tuple(transactions),
        discrepancies=tuple(discrepancies),
        state=read_state(ledger, chain, passed, ours, spoken),
    )


def read_movements(
    ledger: ScannedLedger, scanned: ScannedTransaction, sender: Sender, reader: EventReader
) -> list[TokenEvent]:
    """One transaction's events: core's own where its meta has them, derived where it has not. Raises UnreadableLedger."""
    if scanned.version >= UNIFIED:
        return reader.read(ledger, scanned)
    return derive_events(ledger, scanned, sender, reader)


def _sent_by(ledger: ScannedLedger, keys: Collection[bytes], network_id: bytes) -> frozenset[bytes]:
    """Hashes of the transactions that these accounts sent or paid for, whether or not an entry of theirs changed."""
    if ledger.senders.isdisjoint(keys):
        return frozenset()
    return frozenset(
        envelope_hash(ledger.data, at, network_id)
        for at, _ in ledger.envelopes
        if any(key in keys for key in envelope_sources(ledger.data, at))
    )


def _moves_unseen(scanned: ScannedTransaction) -> bool:
    """Whether old meta may hide a move: an issuer that pays itself changes no entry. Source: pubnet ledger 4522126."""
    return (
        scanned.version < UNIFIED
        and scanned.succeeded
        and any(number and end - begin == 4 for begin, end, number in scanned.changes)
    )


def _sender(
    ledger: ScannedLedger, scanned: ScannedTransaction, envelopes: dict[bytes, Span], network_id: bytes
) -> Sender:
    envelope = envelopes.get(scanned.hash)
    if envelope is None:
        raise UnreadableLedger(tx_hash=scanned.hash.hex(), reason="a result without its envelope")
    return read_sender(ledger.data, envelope, network_id)


def _unproved(ledger: ScannedLedger, found: Discrepancy) -> UnprovedTransaction:
    return UnprovedTransaction(
        height=ledger.height,
        tx_hash=found.tx_hash,
        account=found.account,
        asset=found.asset,
        reported=found.reported,
        changed=found.changed,
    )


def _arrivals(
    chain: ChainId, tx_hash: str, events: list[TokenEvent], ours: Collection[str]
) -> Iterator[Movement]:
    """Transfers and mints: what may be a deposit of the destination."""
    for event in events:
        if event.destination in ours and event.amount > 0:
            yield Movement(
                tx_hash=tx_hash,
                ordinal=(event.op_index or 0) << _OPS_BITS | event.position,
                asset=_asset_id(chain, event),
                source=event.source,
                account=event.destination,
                tag=event.tag,
                memo=event.memo,
                amount=event.amount,
            )


def _asset_id(chain: ChainId, event: TokenEvent) -> AssetId:
    return sep41(chain, event.contract) if event.asset == event.contract else AssetId(chain, event.asset)


def _departures(
    chain: ChainId, tx_hash: str, events: list[TokenEvent], ours: Collection[str]
) -> Iterator[Departure]:
    """Transfers, burns and clawbacks from the view of the source; fees are told with the transaction."""
    for event in events:
        if event.source in ours and event.kind != "fee" and event.amount > 0:
            yield Departure(
                tx_hash=tx_hash,
                asset=_asset_id(chain, event),
                account=event.source,
                amount=event.amount,
            )


def _outcome(ledger: ScannedLedger, scanned: ScannedTransaction) -> str:
    """Why a transaction failed: its operation's own word."""
    pair = xdr.TransactionResultPair.from_xdr_bytes(ledger.data[slice(*scanned.result)])
    return name_result(pair.result)


def _transactions(
    ledger: ScannedLedger,
    scanned: ScannedTransaction,
    sender: Sender,
    events: list[TokenEvent],
    ours: frozenset[str],
) -> Iterator[ChainTransaction]:
    """The transaction from the view of who sent it, and from that of who paid for it where that is somebody else: ours only."""
    if ours.isdisjoint((sender.account, sender.fee_account)):
        return
    fee = sum(event.amount for event in events if event.kind == "fee")
    outcome = "" if scanned.succeeded else _outcome(ledger, scanned)
    carrier = scanned.hash.hex()
    paid_by_sender = sender.fee_account == sender.account
    if sender.account in ours:
        yield ChainTransaction(
            tx_hash=sender.tx_hash,
            carrier_hash=carrier,
            account=sender.account,
            succeeded=scanned.succeeded,
            fee_atomic=fee if paid_by_sender else 0,
            sequence=sender.sequence,
            outcome=outcome,
        )
    if not paid_by_sender and sender.fee_account in ours:
        yield ChainTransaction(
            tx_hash=carrier,
            carrier_hash=carrier,
            account=sender.fee_account,
            succeeded=scanned.succeeded,
            fee_atomic=fee,
            sequence=0,
            outcome=outcome,
        )
