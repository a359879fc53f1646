"""What the real ledgers lack: lying contracts, muxed destinations, fee bumps, merges, tampered meta; by the local network."""

from __future__ import annotations

import pytest
from stellar_sdk import (
    AccountMerge,
    Asset,
    ChangeTrust,
    HashMemo,
    IdMemo,
    Memo,
    MuxedAccount,
    Payment,
    ReturnHashMemo,
    TextMemo,
    TransactionBuilder,
    xdr,
)

from ingestion.errors import UnreadableLedger
from ingestion.stellar.movements import EventReader
from ingestion.stellar.scan.ledger import scan_ledger
from tests.fakes.stellar_town import Town


@pytest.fixture
def town() -> Town:
    return Town()


@pytest.mark.parametrize(
    ("muxed", "memo", "tag", "words"),
    [
        (5, None, 5, ""),
        (None, IdMemo(6), 6, ""),
        (5, IdMemo(6), 5, ""),
        (5, TextMemo("hi"), 5, ""),
        (None, TextMemo("hi"), None, "text:hi"),
        # No database column holds a NUL, and anybody may send one.
        (None, TextMemo(b"a\x00b\xff"), None, "bytes:610062ff"),
        (None, HashMemo(b"\x01" * 32), None, "hash:" + "01" * 32),
        (None, ReturnHashMemo(b"\x02" * 32), None, "hash:" + "02" * 32),
        (None, None, None, ""),
        (0, None, 0, ""),
        (2**64 - 1, None, 2**64 - 1, ""),
    ],
)
def test_a_muxed_id_beats_a_memo_and_words_are_no_tag(
    town: Town, muxed: int | None, memo: Memo | None, tag: int | None, words: str
) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    to = bob.public_key if muxed is None else MuxedAccount(bob.public_key, muxed).account_muxed
    facts = town.facts(town.close(town.sign(ada, [Payment(to, Asset.native(), "1")], memo)))
    assert [(each.account, each.tag, each.memo) for each in facts.movements] == [(bob.public_key, tag, words)]
    assert facts.discrepancies == ()


def test_a_failed_transaction_moves_nothing_and_pays_its_fee(town: Town) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    facts = town.facts(town.close(town.sign(ada, [Payment(bob.public_key, Asset.native(), "1000000")])))
    assert facts.movements == ()
    assert [(each.account, each.succeeded, each.fee_atomic) for each in facts.transactions] == [
        (ada.public_key, False, 100)
    ]


@pytest.mark.parametrize("amount", ["1", "1000000"])
def test_the_outer_account_of_a_fee_bump_pays_and_the_inner_one_sends(town: Town, amount: str) -> None:
    ada, bob, carol = town.settle("ada"), town.settle("bob"), town.settle("carol")
    inner = town.sign(ada, [Payment(bob.public_key, Asset.native(), amount)], IdMemo(9))
    outer = TransactionBuilder.build_fee_bump_transaction(carol, 200, inner, town.network.passphrase)
    outer.sign(carol)
    facts = town.facts(town.close(outer))
    by_account = {each.account: each for each in facts.transactions}
    assert by_account[ada.public_key].fee_atomic == 0
    assert by_account[ada.public_key].sequence == inner.transaction.sequence
    assert by_account[carol.public_key].fee_atomic > 0
    assert by_account[carol.public_key].sequence == 0
    # Whoever wraps what we signed, our own name for it must be found: else it would be proved absent although it paid.
    assert by_account[ada.public_key].tx_hash == inner.hash_hex()
    assert by_account[carol.public_key].tx_hash == outer.hash_hex()
    assert {each.carrier_hash for each in facts.transactions} == {outer.hash_hex()}
    assert [each.tag for each in facts.movements] == ([9] if amount == "1" else [])


def test_a_merge_arrives_without_any_payment(town: Town) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    facts = town.facts(town.close(town.sign(ada, [AccountMerge(bob.public_key)])))
    assert [(each.source, each.account, each.amount) for each in facts.movements] == [
        (ada.public_key, bob.public_key, 1000 * 10**7 - 100)
    ]


def test_an_issued_asset_is_a_movement_from_nobody(town: Town) -> None:
    issuer, bob = town.settle("issuer"), town.settle("bob")
    usd = Asset("USD", issuer.public_key)
    town.close(town.sign(bob, [ChangeTrust(usd)]))
    facts = town.facts(town.close(town.sign(issuer, [Payment(bob.public_key, usd, "3")])))
    assert [(each.source, each.asset.reference, each.amount) for each in facts.movements] == [
        ("", f"USD:{issuer.public_key}", 3 * 10**7)
    ]
    burned = town.facts(town.close(town.sign(bob, [Payment(issuer.public_key, usd, "1")])))
    assert burned.movements == ()
    assert [(each.account, each.amount) for each in burned.departures] == [(bob.public_key, 10**7)]


def test_an_event_of_a_contract_that_is_not_the_assets_own_moves_nothing_and_breaks_the_proof(
    town: Town,
) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    meta = town.close(town.sign(ada, [Payment(bob.public_key, Asset.native(), "1")]))
    event = _events(meta)[0]
    assert event.contract_id is not None
    event.contract_id.contract_id.hash = b"\x66" * 32
    facts = town.facts(meta)
    assert facts.movements == ()
    assert {each.account for each in facts.discrepancies} == {ada.public_key, bob.public_key}


def test_an_event_about_an_asset_of_another_network_is_not_believed(town: Town) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    meta = town.close(town.sign(ada, [Payment(bob.public_key, Asset.native(), "1")]))
    ledger = scan_ledger(meta.to_xdr_bytes())
    assert len(town.reader.read(ledger, ledger.transactions[0])) == 2
    assert EventReader("Another Network ; 2026").read(ledger, ledger.transactions[0]) == []


def test_an_amount_that_the_entries_do_not_show_breaks_the_proof(town: Town) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    meta = town.close(town.sign(ada, [Payment(bob.public_key, Asset.native(), "1")]))
    data = _events(meta)[0].body.v0.data
    parts = data.i128 or next(item.val.i128 for item in data.map.sc_map if item.val.i128 is not None)
    parts.lo = xdr.Uint64(2 * 10**7)
    facts = town.facts(meta)
    assert [(each.account, each.reported, each.changed) for each in facts.discrepancies] == sorted(
        [
            (ada.public_key, -2 * 10**7 - 100, -(10**7) - 100),
            (bob.public_key, 2 * 10**7, 10**7),
        ]
    )


def test_truncated_and_garbled_bytes_are_refused_by_name(town: Town) -> None:
    data = town.close().to_xdr_bytes()
    for broken in (b"", data[:40], data[:-1], data + b"\x00\x00\x00\x00", b"\xff" * 64):
        with pytest.raises(UnreadableLedger):
            scan_ledger(broken)


def _events(meta: xdr.LedgerCloseMeta) -> list[xdr.ContractEvent]:
    assert meta.v2 is not None
    return [
        event
        for processed in meta.v2.tx_processing
        for each in processed.tx_apply_processing.v4.operations
        for event in each.events
    ]
