"""Real pubnet ledgers: what we read, told or derived, equals what two independent oracles say, on every transaction."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from stellar_sdk import xdr

from custody.kernel.assetid import ChainId
from ingestion.errors import BrokenHashChain
from ingestion.stellar.derive.events import derive_events
from ingestion.stellar.entries import sum_changes
from ingestion.stellar.movements import EventReader, TokenEvent, sum_events
from ingestion.stellar.normalize import named_holders, normalize
from ingestion.stellar.scan.ledger import ScannedLedger, ScannedTransaction, scan_ledger
from ingestion.stellar.senders import locate_envelopes, read_sender
from tests.fakes.stellar_ledgers import (
    BATCH,
    OLD,
    PASSPHRASE,
    UNIFIED,
    deltas,
    expected_transactions,
    real_ledger,
    sdk_summary,
    shown,
)

CHAIN = ChainId("stellar:pubnet")
NETWORK_ID = hashlib.sha256(PASSPHRASE.encode()).digest()


@pytest.fixture(scope="module")
def reader() -> EventReader:
    return EventReader(PASSPHRASE)


def derived(
    ledger: ScannedLedger, scanned: ScannedTransaction, reader: EventReader
) -> tuple[list[TokenEvent], tuple[xdr.Operation, ...]]:
    """One transaction read as if core had told nothing, and what was asked in it."""
    envelope = locate_envelopes(ledger, NETWORK_ID)[scanned.hash]
    sender = read_sender(ledger.data, envelope, NETWORK_ID)
    return derive_events(ledger, scanned, sender, reader), sender.operations


@pytest.mark.parametrize("number", UNIFIED)
def test_every_transaction_of_a_real_ledger_equals_both_oracles(
    fixtures: Path, reader: EventReader, number: int
) -> None:
    ledger = scan_ledger(real_ledger(fixtures, number))
    expected = expected_transactions(fixtures, number)
    assert len(ledger.transactions) == len(expected)
    for scanned, wanted in zip(ledger.transactions, expected, strict=True):
        assert scanned.hash.hex() == wanted["hash"]
        events = reader.read(ledger, scanned)
        assert [shown(event) for event in events] == wanted["events"], wanted["hash"]
        assert classic(sum_changes(ledger.data, scanned.changes)) == deltas(wanted), wanted["hash"]
        assert classic(sum_events(events)) == deltas(wanted), wanted["hash"]


def test_what_contracts_hold_is_proved_by_their_entries(fixtures: Path, reader: EventReader) -> None:
    """Every balance of a contract that an event moves is shown by an entry, and every such entry of these ledgers by an event."""
    seen = 0
    for number in UNIFIED:
        ledger = scan_ledger(real_ledger(fixtures, number))
        for scanned in ledger.transactions:
            told = sum_events(reader.read(ledger, scanned))
            reported = {
                (holder, reader.contract_of(asset)): change
                for (holder, asset), change in told.items()
                if holder.startswith("C")
            }
            changed = sum_changes(ledger.data, scanned.changes)
            assert {key: change for key, change in changed.items() if key[0].startswith("C")} == reported
            seen += len(reported)
    assert seen == 4


@pytest.mark.parametrize("number", UNIFIED)
def test_deriving_gives_what_core_told_in_the_same_order(
    fixtures: Path, reader: EventReader, number: int
) -> None:
    """Whole events are compared, with their places: a movement keeps its identity whichever way its ledger is read."""
    ledger = scan_ledger(real_ledger(fixtures, number))
    contracts = (xdr.OperationType.INVOKE_HOST_FUNCTION,)
    classic = 0
    for scanned in ledger.transactions:
        events, operations = derived(ledger, scanned, reader)
        told = reader.read(ledger, scanned)
        if any(each.body.type in contracts for each in operations):
            told = [event for event in told if event.kind == "fee"]
            events = [event for event in events if event.kind == "fee"]
        else:
            classic += len(operations)
        assert events == told, scanned.hash.hex()
    assert classic > 400


@pytest.mark.parametrize("number", [*OLD, BATCH])
def test_ledgers_from_before_cap_67_prove_by_what_is_derived(
    fixtures: Path, reader: EventReader, number: int
) -> None:
    ledger = scan_ledger(real_ledger(fixtures, number))
    for scanned in ledger.transactions:
        assert scanned.version < 4
        events, _ = derived(ledger, scanned, reader)
        assert classic(sum_events(events)) == classic(sum_changes(ledger.data, scanned.changes)), (
            scanned.hash.hex()
        )


@pytest.mark.parametrize("number", [*UNIFIED, *OLD, BATCH])
def test_a_real_ledger_passes_the_audit_and_names_every_sender(
    fixtures: Path, reader: EventReader, number: int
) -> None:
    ledger = scan_ledger(real_ledger(fixtures, number))
    everybody = named_holders(ledger)
    facts = normalize(ledger, CHAIN, reader, everybody, audit=True)
    assert facts.ref.height == number
    assert facts.discrepancies == ()
    assert {each.carrier_hash for each in facts.transactions} == {
        each.hash.hex() for each in ledger.transactions
    }
    assert normalize(ledger, CHAIN, reader, everybody) == facts


@pytest.mark.parametrize("number", [*UNIFIED, *OLD, BATCH])
def test_one_account_sees_its_own_part_of_the_ledger_and_no_more(
    fixtures: Path, reader: EventReader, number: int
) -> None:
    ledger = scan_ledger(real_ledger(fixtures, number))
    facts = normalize(ledger, CHAIN, reader, named_holders(ledger))
    for account in sorted(facts.accounts())[::25]:
        own = normalize(ledger, CHAIN, reader, {account})
        assert own.movements == tuple(each for each in facts.movements if each.account == account)
        assert own.departures == tuple(each for each in facts.departures if each.account == account)
        assert own.transactions == tuple(each for each in facts.transactions if each.account == account)


def test_a_ledger_without_transactions_is_a_ledger(fixtures: Path, reader: EventReader) -> None:
    ledger = scan_ledger(real_ledger(fixtures, OLD[0]))
    facts = normalize(ledger, CHAIN, reader, {"GAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAWHF"})
    assert (facts.ref.height, facts.movements, facts.transactions) == (6154623, (), ())
    assert facts.ref.parent_hash != facts.ref.hash


@pytest.mark.parametrize("number", [*UNIFIED, *OLD, BATCH])
def test_the_scanner_says_what_the_full_decode_says(fixtures: Path, number: int) -> None:
    data = real_ledger(fixtures, number)
    ledger = scan_ledger(data)
    head, *rows = sdk_summary(data)
    assert (ledger.height, ledger.hash, ledger.parent_hash, ledger.close_time) == head
    assert [scanned_summary(ledger, each) for each in ledger.transactions] == rows


def test_a_ledger_whose_header_was_changed_is_refused(fixtures: Path) -> None:
    data = bytearray(real_ledger(fixtures, UNIFIED[0]))
    parent = scan_ledger(bytes(data)).parent_hash
    data[data.index(parent)] ^= 1
    with pytest.raises(BrokenHashChain):
        scan_ledger(bytes(data))


def classic(sums: dict[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """Without what contracts hold: the oracles leave it out."""
    return {key: change for key, change in sums.items() if not key[0].startswith("C")}


def scanned_summary(ledger: ScannedLedger, scanned: ScannedTransaction) -> tuple[object, ...]:
    """A transaction as `sdk_summary` tells it."""
    lists = scanned.changes[:-1] if ledger.after_all else scanned.changes
    counts = [int.from_bytes(ledger.data[begin : begin + 4], "big") for begin, _, _ in lists]
    return (
        scanned.hash,
        scanned.fee_charged,
        scanned.code,
        scanned.version,
        scanned.operations,
        sum(counts),
        len(scanned.events),
    )
