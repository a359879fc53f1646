"""A ledger is proved against itself, by transaction and by entry, and whoever lies is named."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from stellar_sdk import Asset, ChangeTrust, Keypair, Payment, StrKey, xdr

from ingestion.errors import BrokenHashChain, UnprovedTransaction
from ingestion.model import BlockFacts
from ingestion.stellar.movements import EventReader
from ingestion.stellar.normalize import named_holders, normalize
from ingestion.stellar.scan.ledger import scan_ledger
from tests.fakes.stellar_town import CHAIN, Town, before_cap_67, changed, forge, seal

TOKEN = b"\x77" * 32
LUMENS = 10**7


@pytest.fixture
def town() -> Town:
    return Town()


def audited(town: Town, meta: xdr.LedgerCloseMeta) -> BlockFacts:
    ledger = scan_ledger(meta.to_xdr_bytes())
    return normalize(ledger, CHAIN, town.reader, named_holders(ledger), audit=True)


def seen_by(town: Town, meta: xdr.LedgerCloseMeta, *ours: str, tokens: Sequence[str] = ()) -> BlockFacts:
    reader = EventReader(town.network.passphrase, tokens)
    return normalize(scan_ledger(meta.to_xdr_bytes()), CHAIN, reader, ours)


def events_in(meta: xdr.LedgerCloseMeta, number: int = 0) -> list[xdr.ContractEvent]:
    """The events of one transaction's first operation, to be changed in place."""
    assert meta.v2 is not None
    told = meta.v2.tx_processing[number].tx_apply_processing.v4
    assert told is not None
    return told.operations[0].events


def accounts_in(meta: xdr.LedgerCloseMeta, number: int, owner: Keypair) -> list[xdr.AccountEntry]:
    """What one transaction's first operation shows of an account: before and after."""
    assert meta.v2 is not None
    told = meta.v2.tx_processing[number].tx_apply_processing.v4
    assert told is not None
    shown = [each.state or each.updated for each in told.operations[0].changes.ledger_entry_changes]
    entries = [each.data.account for each in shown if each is not None and each.data.account is not None]
    return [each for each in entries if each.account_id == owner.xdr_account_id()]


def token_event(
    kind: str, topics: Sequence[xdr.SCVal], data: xdr.SCVal, contract: bytes = TOKEN
) -> xdr.ContractEvent:
    name = xdr.SCVal(xdr.SCValType.SCV_SYMBOL, sym=xdr.SCSymbol(kind.encode()))
    return xdr.ContractEvent(
        xdr.ExtensionPoint(0),
        xdr.ContractID(xdr.Hash(contract)),
        xdr.ContractEventType.CONTRACT,
        xdr.ContractEventBody(0, xdr.ContractEventV0([name, *topics], data)),
    )


def address(account: Keypair | bytes) -> xdr.SCVal:
    found = (
        xdr.SCAddress(
            xdr.SCAddressType.SC_ADDRESS_TYPE_CONTRACT, contract_id=xdr.ContractID(xdr.Hash(account))
        )
        if isinstance(account, bytes)
        else xdr.SCAddress(xdr.SCAddressType.SC_ADDRESS_TYPE_ACCOUNT, account_id=account.xdr_account_id())
    )
    return xdr.SCVal(xdr.SCValType.SCV_ADDRESS, address=found)


def i128(amount: int) -> xdr.SCVal:
    parts = xdr.Int128Parts(xdr.Int64(amount >> 64), xdr.Uint64(amount & (2**64 - 1)))
    return xdr.SCVal(xdr.SCValType.SCV_I128, i128=parts)


def text(words: str) -> xdr.SCVal:
    return xdr.SCVal(xdr.SCValType.SCV_STRING, str=xdr.SCString(words.encode()))


def table(**fields: xdr.SCVal) -> xdr.SCVal:
    rows = [
        xdr.SCMapEntry(xdr.SCVal(xdr.SCValType.SCV_SYMBOL, sym=xdr.SCSymbol(name.encode())), value)
        for name, value in fields.items()
    ]
    return xdr.SCVal(xdr.SCValType.SCV_MAP, map=xdr.SCMap(rows))


def changes_in(meta: xdr.LedgerCloseMeta) -> list[xdr.LedgerEntryChange]:
    """The changes of the first transaction's first operation, to be changed in place."""
    assert meta.v2 is not None
    told = meta.v2.tx_processing[0].tx_apply_processing.v4
    assert told is not None
    return told.operations[0].changes.ledger_entry_changes


def native_contract(town: Town) -> bytes:
    return StrKey.decode_contract(Asset.native().contract_id(town.network.passphrase))


def kept(town: Town, amount: int, contract: bytes | None = None) -> xdr.LedgerEntryData:
    """The entry in which lumens' own contract, or another, keeps what TOKEN holds."""
    balance = xdr.SCVal(xdr.SCValType.SCV_SYMBOL, sym=xdr.SCSymbol(b"Balance"))
    yes, no = (xdr.SCVal(xdr.SCValType.SCV_BOOL, b=flag) for flag in (True, False))
    place = address(contract or native_contract(town)).address
    assert place is not None
    entry = xdr.ContractDataEntry(
        xdr.ExtensionPoint(0),
        place,
        xdr.SCVal(xdr.SCValType.SCV_VEC, vec=xdr.SCVec([balance, address(TOKEN)])),
        xdr.ContractDataDurability.PERSISTENT,
        table(amount=i128(amount), authorized=yes, clawback=no),
    )
    return xdr.LedgerEntryData(xdr.LedgerEntryType.CONTRACT_DATA, contract_data=entry)


def paid_to_a_contract(town: Town, shown: Sequence[xdr.LedgerEntryChange]) -> tuple[xdr.LedgerCloseMeta, str]:
    """A ledger that tells of one lumen for a contract, with these changes of what contracts keep."""
    ada, bob = town.settle("ada"), town.settle("bob")
    meta = payment(town, ada, bob)
    events_in(meta)[0].body.v0.topics[2] = address(TOKEN)
    changes_in(meta).extend(shown)
    return meta, StrKey.encode_contract(TOKEN)


def payment(town: Town, payer: Keypair, to: Keypair) -> xdr.LedgerCloseMeta:
    return town.close(town.sign(payer, [Payment(to.public_key, Asset.native(), "1")]))


def test_an_audit_names_the_transaction_whose_events_lie(town: Town) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    meta = payment(town, ada, bob)
    assert audited(town, meta).movements
    del events_in(meta)[0]
    assert meta.v2 is not None
    with pytest.raises(UnprovedTransaction) as caught:
        audited(town, meta)
    assert caught.value.values["tx_hash"] == meta.v2.tx_processing[0].result.transaction_hash.hash.hex()
    assert caught.value.values["account"] in (ada.public_key, bob.public_key)


def test_without_an_audit_a_lie_about_others_stops_nobody(town: Town) -> None:
    ada, bob, carol = town.settle("ada"), town.settle("bob"), town.settle("carol")
    meta = payment(town, ada, bob)
    del events_in(meta)[0]
    assert seen_by(town, meta, carol.public_key).discrepancies == ()
    assert [each.account for each in seen_by(town, meta, bob.public_key).discrepancies] == [bob.public_key]


def test_results_that_the_header_does_not_vouch_for_are_refused(town: Town) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    meta = payment(town, ada, bob)
    assert meta.v2 is not None
    result = meta.v2.tx_processing[0].result.result
    result.fee_charged = xdr.Int64(result.fee_charged.int64 + 1)
    with pytest.raises(BrokenHashChain, match="the results are not those of the header"):
        scan_ledger(meta.to_xdr_bytes())
    seal(meta)
    assert scan_ledger(meta.to_xdr_bytes()).transactions[0].fee_charged == result.fee_charged.int64


def test_an_entry_that_changes_between_two_transactions_is_noticed(town: Town) -> None:
    """Each transaction adds up by itself: only that the second finds another balance than the first left gives it away."""
    ada, bob, carol = town.settle("ada"), town.settle("bob"), town.settle("carol")
    payments = [Payment(carol.public_key, Asset.native(), "1")]
    meta = town.close(town.sign(ada, payments), town.sign(bob, payments))
    assert audited(town, meta).movements
    for entry in accounts_in(meta, 1, carol):
        entry.balance = xdr.Int64(entry.balance.int64 + 5)
    with pytest.raises(UnprovedTransaction) as caught:
        seen_by(town, meta, carol.public_key)
    assert (caught.value.values["left"], caught.value.values["found"]) == (1001 * LUMENS, 1001 * LUMENS + 5)
    assert seen_by(town, meta, ada.public_key).discrepancies == ()


@pytest.mark.parametrize("derive", [False, True])
def test_a_trustline_may_go_come_and_go_within_one_ledger(town: Town, derive: bool) -> None:
    issuer, bob = town.settle("issuer"), town.settle("bob")
    usd = Asset("USD", issuer.public_key)
    town.close(town.sign(bob, [ChangeTrust(usd)]))
    town.close(town.sign(issuer, [Payment(bob.public_key, usd, "3")]))
    back = Payment(issuer.public_key, usd, "3")
    gone, again = ChangeTrust(usd, limit="0"), ChangeTrust(usd)
    meta = town.close(town.sign(bob, [back, gone, again, gone]))
    facts = audited(town, before_cap_67(meta) if derive else meta)
    assert [(each.account, each.amount) for each in facts.departures] == [(bob.public_key, 3 * LUMENS)]


def test_a_sender_is_seen_although_no_entry_of_his_changed(town: Town) -> None:
    """As with an inner transaction that fails in somebody else's fee bump before it used its sequence number."""
    ada = town.settle("ada")
    envelope = town.sign(ada, [Payment(ada.public_key, Asset.native(), "1")])
    success = xdr.PaymentResult(xdr.PaymentResultCode.PAYMENT_SUCCESS)
    result = xdr.OperationResultTr(xdr.OperationType.PAYMENT, payment_result=success)
    facts = seen_by(town, forge(town, envelope, [result], [[]]), ada.public_key)
    assert [(each.account, each.sequence) for each in facts.transactions] == [
        (ada.public_key, envelope.transaction.sequence)
    ]


def test_a_contract_may_hold_what_its_asset_says_and_its_entry_shows(town: Town) -> None:
    meta, holder = paid_to_a_contract(town, changed(kept(town, 3), kept(town, 3 + LUMENS)))
    facts = seen_by(town, meta, holder)
    assert [(each.account, each.asset.reference, each.amount) for each in facts.movements] == [
        (holder, "native", LUMENS)
    ]
    assert facts.discrepancies == ()
    (held,) = facts.state.holdings
    assert (held.account, held.asset.reference, held.before, held.amount) == (holder, "native", 3, 3 + LUMENS)
    assert (held.authorization, held.clawback) == ("full", False)


def test_an_event_that_no_entry_of_the_contract_shows_is_told(town: Town) -> None:
    for shown in ([], changed(kept(town, 3), kept(town, 4)), changed(kept(town, LUMENS), None)):
        meta, holder = paid_to_a_contract(town, shown)
        found = [
            (each.account, each.asset, each.reported) for each in seen_by(town, meta, holder).discrepancies
        ]
        assert found == [(holder, "native", LUMENS)]


@pytest.mark.parametrize("after", [5 + LUMENS, None])
def test_a_balance_from_the_archive_was_there_before(town: Town, after: int | None) -> None:
    """What is restored is no gain, whether it is changed in the same transaction or not. Source: CAP-66."""
    kind = xdr.LedgerEntryChangeType.LEDGER_ENTRY_RESTORED
    back = xdr.LedgerEntryChange(kind, restored=changed(kept(town, 5), None)[0].state)
    if after is None:
        ada, bob = town.settle("ada"), town.settle("bob")
        meta, holder = payment(town, ada, bob), StrKey.encode_contract(TOKEN)
        changes_in(meta).append(back)
        events_in(meta).append(
            token_event("mint", [address(TOKEN), text("native")], i128(0), native_contract(town))
        )
    else:
        meta, holder = paid_to_a_contract(town, [back, changed(kept(town, 5), kept(town, after))[1]])
    facts = seen_by(town, meta, holder)
    assert facts.discrepancies == ()
    assert [(each.before, each.amount) for each in facts.state.holdings] == [(5, after or 5)]


def test_what_another_contract_keeps_in_the_same_form_is_no_money_of_ours(town: Town) -> None:
    meta, holder = paid_to_a_contract(town, changed(kept(town, 3), kept(town, 3 + LUMENS)))
    foreign = b"\x66" * 32
    changes_in(meta).extend(changed(kept(town, 0, foreign), kept(town, 10**30, foreign)))
    facts = seen_by(town, meta, holder)
    assert facts.discrepancies == ()
    assert [each.asset.reference for each in facts.state.holdings] == ["native"]


@pytest.mark.parametrize(
    "data",
    [
        i128(5),
        table(amount=i128(5)),
        table(amount=i128(5), note=text("a field that a later version may bring")),
    ],
)
def test_a_token_of_a_contract_counts_when_it_is_on_the_list(town: Town, data: xdr.SCVal) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    meta = payment(town, ada, bob)
    events_in(meta).append(token_event("transfer", [address(ada), address(bob)], data))
    contract = StrKey.encode_contract(TOKEN)
    native = [("native", LUMENS, 1 << 16)]
    for tokens, wanted in (((), native), ((contract,), [*native, (f"sep41:{contract}", 5, 1 << 16 | 1)])):
        facts = seen_by(town, meta, bob.public_key, tokens=tokens)
        assert [(each.asset.reference, each.amount, each.ordinal) for each in facts.movements] == wanted
        assert facts.discrepancies == ()


def test_a_failed_transaction_credits_nobody_whatever_its_events_say(town: Town) -> None:
    """No entry could contradict them: the holder is a contract, the token another's."""
    ada, bob = town.settle("ada"), town.settle("bob")
    meta = town.close(town.sign(ada, [Payment(bob.public_key, Asset.native(), "1000000")]))
    assert meta.v2 is not None
    told = meta.v2.tx_processing[0].tx_apply_processing.v4
    assert told is not None
    event = token_event("transfer", [address(ada), address(bob)], i128(5))
    told.operations = [xdr.OperationMetaV2(xdr.ExtensionPoint(0), xdr.LedgerEntryChanges([]), [event])]
    facts = seen_by(town, meta, ada.public_key, bob.public_key, tokens=[StrKey.encode_contract(TOKEN)])
    assert facts.movements == ()
    assert [each.succeeded for each in facts.transactions] == [False]


def test_a_listed_token_speaks_for_no_asset_but_itself(town: Town) -> None:
    issuer, ada, bob = town.settle("issuer"), town.settle("ada"), town.settle("bob")
    meta = payment(town, ada, bob)
    claimed = text(f"USDC:{issuer.public_key}")
    events_in(meta).append(token_event("transfer", [address(ada), address(bob), claimed], i128(5)))
    contract = StrKey.encode_contract(TOKEN)
    assert [each.asset.reference for each in seen_by(town, meta, bob.public_key).movements] == ["native"]
    facts = seen_by(town, meta, bob.public_key, tokens=[contract])
    assert [each.asset.reference for each in facts.movements] == ["native", f"sep41:{contract}"]


@pytest.mark.parametrize(
    ("kind", "topics", "moved"),
    [
        ("transfer", ("bob", "carol"), ("bob", "carol")),
        ("transfer", ("issuer", "bob"), ("", "bob")),
        ("transfer", ("bob", "issuer"), ("bob", "")),
        ("mint", ("issuer", "bob"), ("", "bob")),
        ("clawback", ("issuer", "bob"), ("bob", "")),
        ("burn", ("bob",), ("bob", "")),
    ],
)
def test_contracts_of_meta_v3_are_read_by_todays_rules(
    town: Town, kind: str, topics: tuple[str, ...], moved: tuple[str, str]
) -> None:
    """Then the admin came first, and moves from and to the issuer were called transfers."""
    people = {name: town.settle(name) for name in ("issuer", "bob", "carol")}
    asset = Asset("USD", people["issuer"].public_key)
    meta = before_cap_67(payment(town, people["bob"], people["carol"]), version=3)
    assert meta.v2 is not None
    told = meta.v2.tx_processing[0].tx_apply_processing.v3
    assert told is not None
    contract = StrKey.decode_contract(asset.contract_id(town.network.passphrase))
    name = text(f"USD:{asset.issuer}")
    event = token_event(kind, [*(address(people[each]) for each in topics), name], i128(5), contract)
    void = xdr.SCVal(xdr.SCValType.SCV_VOID)
    told.soroban_meta = xdr.SorobanTransactionMeta(xdr.SorobanTransactionMetaExt(0), [event], void, [])
    ledger = scan_ledger(meta.to_xdr_bytes())
    (found,) = town.reader.read_contracts(ledger, ledger.transactions[0])
    names = {"": ""} | {name: key.public_key for name, key in people.items()}
    assert (found.source, found.destination, found.amount) == (names[moved[0]], names[moved[1]], 5)
    assert found.asset == f"USD:{asset.issuer}"
