"""Proof of a ledger against itself: what its events say moved is what its entries say holders gained. Pure.

The two sides come from different parts of the meta and, in ledgers that core tells of, from different code of core. Per
transaction their sums must agree; over the ledger every entry must be found as the change before left it. Source: CAP-67.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from ingestion.errors import UnprovedTransaction
from ingestion.model import Discrepancy
from ingestion.stellar.entries import STATE, Holding, read_changes, sum_changes
from ingestion.stellar.movements import TokenEvent, sum_events
from ingestion.stellar.scan.ledger import ScannedLedger, ScannedTransaction

Lists = list[tuple[int, int, int]]


def find_discrepancies(
    ledger: ScannedLedger,
    scanned: ScannedTransaction,
    events: Iterable[TokenEvent],
    ours: Collection[str] | None,
) -> list[Discrepancy]:
    """Where one transaction's events and entries disagree, for these accounts, or for every holder when None."""
    reported, changed = sum_events(events), sum_changes(ledger.data, scanned.changes)
    return [
        Discrepancy(
            tx_hash=scanned.hash.hex(),
            account=holder,
            asset=asset,
            reported=reported.get((holder, asset), 0),
            changed=changed.get((holder, asset), 0),
        )
        for holder, asset in sorted(reported.keys() | changed.keys())
        if reported.get((holder, asset), 0) != changed.get((holder, asset), 0)
        and (ours is None or holder in ours)
    ]


def demand_unbroken_entries(
    ledger: ScannedLedger, transactions: Iterable[ScannedTransaction], ours: Collection[str] | None
) -> None:
    """Each entry of these accounts, or of everybody when None, must be met as it was left within the ledger.

    So the sum of a ledger's events is what an entry holds at its end over what it held before it. Raises UnprovedTransaction.
    """
    left: dict[bytes, dict[Holding, int]] = {}
    for scanned, lists in _phases(ledger, list(transactions)):
        for begin, end, _ in lists:
            for kind, entry, amounts in read_changes(ledger.data, begin, end):
                if ours is not None and not any(
                    holder in ours for holder, _ in amounts or left.get(entry, {})
                ):
                    continue
                if kind == STATE and left.get(entry, amounts) != amounts:
                    holder, asset = next(iter(amounts))
                    raise UnprovedTransaction(
                        height=ledger.height,
                        tx_hash=scanned.hash.hex(),
                        account=holder,
                        asset=asset,
                        left=left[entry].get((holder, asset)),
                        found=amounts[holder, asset],
                    )
                left[entry] = amounts


def _phases(
    ledger: ScannedLedger, transactions: list[ScannedTransaction]
) -> Iterator[tuple[ScannedTransaction, Lists]]:
    """Lists of changes in the order of the ledger: all fees, then each transaction, then what follows all of them."""
    last = -1 if ledger.after_all else None
    for scanned in transactions:
        yield scanned, scanned.changes[:1]
    for scanned in transactions:
        yield scanned, scanned.changes[1:last]
    if ledger.after_all:
        for scanned in transactions:
            yield scanned, scanned.changes[-1:]
