"""Proof of a ledger against itself: what its events say moved is what its entries say holders gained. Pure.

The two sides come from different parts of the meta and, in ledgers that core tells of, from different code of core. Per
transaction their sums must agree; over the ledger every entry must be found as the change before left it. Source: CAP-67.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from ingestion.errors import UnprovedTransaction
from ingestion.model import Discrepancy
from ingestion.stellar.entries import FOUND, Change, Holding, read_changes, sum_changes
from ingestion.stellar.movements import TokenEvent, sum_events
from ingestion.stellar.scan.ledger import ScannedLedger, ScannedTransaction

Lists = list[tuple[int, int, int]]


class Passage(NamedTuple):
    """An entry's way through a ledger."""

    before: Mapping[Holding, int]
    """What it held when the ledger met it; empty when it was not there."""
    last: Change
    """How the ledger left it: the last change that shows it, or its removal."""


def find_discrepancies(
    ledger: ScannedLedger,
    scanned: ScannedTransaction,
    events: Iterable[TokenEvent],
    ours: Collection[str] | None,
) -> list[Discrepancy]:
    """Where one transaction's events and entries disagree, for these accounts, or for every holder when None.

    Of what contracts hold, only that counts which is kept by a contract that spoke for its asset in this transaction: any
    contract may keep something that looks like a balance.
    """
    events = list(events)
    reported = sum_events(events)
    assets = {each.contract: each.asset for each in events}
    changed = {
        (holder, assets[asset] if holder.startswith("C") else asset): change
        for (holder, asset), change in sum_changes(ledger.data, scanned.changes).items()
        if not holder.startswith("C") or assets.get(asset, asset) != asset
    }
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
) -> dict[bytes, Passage]:
    """Each entry of these accounts, or of everybody when None, must be met as it was left within the ledger.

    So the sum of a ledger's events is what an entry holds at its end over what it held before it. Returns how each of them went
    through the ledger, by what names it. Raises UnprovedTransaction.
    """
    passed: dict[bytes, Passage] = {}
    for scanned, lists in _phases(ledger, list(transactions)):
        for begin, end, _ in lists:
            for change in read_changes(ledger.data, begin, end):
                amounts, known = change.amounts, passed.get(change.entry)
                left = {} if known is None else known.last.amounts
                if ours is not None and not any(holder in ours for holder, _ in amounts or left):
                    continue
                if known is None:
                    passed[change.entry] = Passage(amounts if change.kind in FOUND else {}, change)
                    continue
                if change.kind in FOUND and left != amounts:
                    holder, asset = next(iter(amounts))
                    raise UnprovedTransaction(
                        height=ledger.height,
                        tx_hash="" if scanned is None else scanned.hash.hex(),
                        account=holder,
                        asset=asset,
                        left=left.get((holder, asset)),
                        found=amounts[holder, asset],
                    )
                passed[change.entry] = Passage(known.before, change)
    return passed


def _phases(
    ledger: ScannedLedger, transactions: list[ScannedTransaction]
) -> Iterator[tuple[ScannedTransaction | None, Lists]]:
    """Lists of changes in the order of the ledger: all fees, then each transaction, then what follows all of them, then upgrades
    of the network, which are nobody's transaction."""
    last = -1 if ledger.after_all else None
    for scanned in transactions:
        yield scanned, scanned.changes[:1]
    for scanned in transactions:
        yield scanned, scanned.changes[1:last]
    if ledger.after_all:
        for scanned in transactions:
            yield scanned, scanned.changes[-1:]
    yield None, [(begin, end, 0) for begin, end in ledger.upgrades]
