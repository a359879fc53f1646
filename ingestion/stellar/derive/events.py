"""The events that core would have told, for ledgers whose meta is older than CAP-67. Pure.

What an operation moved follows from what was asked, what came of it, and, where neither says how much, from the entries. The
order is core's, so that a movement keeps its place whichever way it is read. Source: CAP-67; TransactionMeta V0 to V3.
"""

from __future__ import annotations

from collections.abc import Iterator

from stellar_sdk import xdr

from ingestion.errors import UnreadableLedger
from ingestion.stellar.derive.moves import Applied, Move
from ingestion.stellar.derive.operations import moves_before_protocol_8, moves_of
from ingestion.stellar.entries import read_changes, sum_changes
from ingestion.stellar.holders import NATIVE
from ingestion.stellar.movements import EventReader, TokenEvent, movement_kind
from ingestion.stellar.scan.ledger import ScannedLedger, ScannedTransaction
from ingestion.stellar.senders import Sender, name_account

_LUMENS_KEPT = 8
"""From this protocol on, no operation makes or loses lumens unless it says so."""
_CONTRACT_TYPES = (
    xdr.OperationType.INVOKE_HOST_FUNCTION,
    xdr.OperationType.EXTEND_FOOTPRINT_TTL,
    xdr.OperationType.RESTORE_FOOTPRINT,
)
"""Operations whose transactions are charged in advance and refunded."""


def derive_events(
    ledger: ScannedLedger, scanned: ScannedTransaction, sender: Sender, reader: EventReader
) -> list[TokenEvent]:
    """One transaction's events: its fee, and what its operations moved if it succeeded. Raises UnreadableLedger."""
    events = list(_fees(ledger, scanned, sender, reader))
    if not scanned.succeeded:
        return events
    for applied in applied_operations(ledger, scanned, sender):
        moves = moves_of(applied) if ledger.protocol >= _LUMENS_KEPT else moves_before_protocol_8(applied)
        events.extend(_event(reader, applied.number, position, move) for position, move in enumerate(moves))
    # A contract stands alone in its transaction, so its events follow nothing.
    return events + (reader.read_contracts(ledger, scanned) if scanned.version < 4 else [])


def applied_operations(
    ledger: ScannedLedger, scanned: ScannedTransaction, sender: Sender
) -> Iterator[Applied]:
    """The operations of a transaction that succeeded, each with its result and its changes. Raises UnreadableLedger."""
    results = _results(ledger.data, scanned)
    lists: dict[int, list[tuple[int, int]]] = {}
    for begin, end, number in scanned.changes:
        lists.setdefault(number, []).append((begin, end))
    if len(results) != len(sender.operations):
        raise UnreadableLedger(
            tx_hash=scanned.hash.hex(), operations=len(sender.operations), results=len(results)
        )
    for number, (operation, result) in enumerate(zip(sender.operations, results, strict=True), start=1):
        if result.tr is None:
            raise UnreadableLedger(tx_hash=scanned.hash.hex(), operation=number, reason="no result")
        own = operation.source_account
        yield Applied(
            number=number,
            body=operation.body,
            result=result.tr,
            source=sender.account if own is None else name_account(own),
            sender=sender,
            changes=[change for each in lists.get(number, ()) for change in read_changes(ledger.data, *each)],
        )


def _fees(
    ledger: ScannedLedger, scanned: ScannedTransaction, sender: Sender, reader: EventReader
) -> Iterator[TokenEvent]:
    """What was charged, and for contracts what came back of it: the result tells only what remained."""
    charged = scanned.fee_charged
    if any(each.body.type in _CONTRACT_TYPES for each in sender.operations):
        first = sum_changes(ledger.data, scanned.changes[:1])
        charged = -first.get((sender.fee_account, NATIVE), 0)
    for position, amount in enumerate((charged, scanned.fee_charged - charged)):
        if position == 0 or amount:
            yield TokenEvent(
                op_index=None,
                position=position,
                kind="fee",
                contract=reader.contract_of(NATIVE),
                asset=NATIVE,
                source=sender.fee_account,
                destination="",
                amount=amount,
                tag=None,
                memo="",
            )


def _event(reader: EventReader, number: int, position: int, move: Move) -> TokenEvent:
    if not move.destination:
        kind = "burn" if move.asset == NATIVE else "clawback"
    elif not move.source:
        kind = "mint"
    else:
        kind = movement_kind(move.asset, move.source, move.destination)
    arrives = kind in ("transfer", "mint")
    return TokenEvent(
        op_index=number,
        position=position,
        kind=kind,
        contract=reader.contract_of(move.asset),
        asset=move.asset,
        source="" if kind == "mint" else move.source,
        destination=move.destination if arrives else "",
        amount=move.amount,
        tag=move.tag if arrives else None,
        memo=move.memo if arrives else "",
    )


def _results(data: bytes, scanned: ScannedTransaction) -> list[xdr.OperationResult]:
    begin, end = scanned.result
    result = xdr.TransactionResultPair.from_xdr_bytes(data[begin:end]).result.result
    if result.inner_result_pair is not None:
        return result.inner_result_pair.result.result.results or []
    return result.results or []
