"""What a ledger leaves of accounts equals what the SDK's full decode says that its entries hold last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stellar_sdk import (
    AccountMerge,
    Asset,
    AuthorizationFlag,
    BeginSponsoringFutureReserves,
    ChangeTrust,
    CreateAccount,
    EndSponsoringFutureReserves,
    Keypair,
    ManageData,
    Payment,
    SetOptions,
    Signer,
    SignerKey,
    StrKey,
    xdr,
)

from custody.holdings.model import AccountState, ChainState, HoldingState
from custody.kernel.assetid import ChainId
from ingestion.stellar.movements import EventReader
from ingestion.stellar.normalize import named_holders, normalize
from ingestion.stellar.scan.ledger import scan_ledger
from tests.fakes.stellar_ledgers import BATCH, OLD, PASSPHRASE, UNIFIED, real_ledger, sdk_body
from tests.fakes.stellar_town import Town, changed, created, forge

PUBNET = ChainId("stellar:pubnet")
RESERVE = 5_000_000


@pytest.fixture
def town() -> Town:
    return Town()


def sdk_changes(body: Any) -> Iterator[xdr.LedgerEntryChange]:
    """Every change of a ledger in the order in which it was applied: all fees, then each transaction, then what follows all."""
    for processed in body.tx_processing:
        yield from processed.fee_processing.ledger_entry_changes
    for processed in body.tx_processing:
        meta = processed.tx_apply_processing
        inner = meta.v4 or meta.v3 or meta.v2 or meta.v1
        before = getattr(inner, "tx_changes_before", None) or getattr(inner, "tx_changes", None)
        after = getattr(inner, "tx_changes_after", None)
        operations = inner.operations if inner is not None else meta.operations
        for changes in (before, *(each.changes for each in operations), after):
            yield from changes.ledger_entry_changes if changes is not None else ()
    for processed in body.tx_processing:
        follows = getattr(processed, "post_tx_apply_fee_processing", None)
        yield from follows.ledger_entry_changes if follows is not None else ()


def sdk_state(data: bytes) -> tuple[int, dict[bytes, xdr.LedgerEntry | None]]:
    """The base reserve, and every account and trustline as the ledger left it, by its key; None where it is gone."""
    body = sdk_body(xdr.LedgerCloseMeta.from_xdr_bytes(data))
    left: dict[bytes, xdr.LedgerEntry | None] = {}
    for change in sdk_changes(body):
        shown = change.created or change.updated or change.state or change.restored
        key = change.removed if shown is None else key_of(shown.data)
        if key is not None and (key.account or (key.trust_line and key.trust_line.asset.type.value < 3)):
            left[key.to_xdr_bytes()] = shown
    return body.ledger_header.header.base_reserve.uint32, left


def key_of(data: xdr.LedgerEntryData) -> xdr.LedgerKey | None:
    if data.account is not None:
        return xdr.LedgerKey(data.type, account=xdr.LedgerKeyAccount(data.account.account_id))
    if data.trust_line is not None:
        line = xdr.LedgerKeyTrustLine(data.trust_line.account_id, data.trust_line.asset)
        return xdr.LedgerKey(data.type, trust_line=line)
    return None


def liabilities(entry: Any) -> tuple[int, int]:
    found = entry.ext.v1.liabilities if entry.ext.v1 is not None else None
    return (found.selling.int64, found.buying.int64) if found is not None else (0, 0)


def expected_account(entry: xdr.LedgerEntry, base_reserve: int) -> tuple[object, ...]:
    account = entry.data.account
    assert account is not None
    more = account.ext.v1.ext.v2 if account.ext.v1 is not None else None
    counts = (more.num_sponsoring.uint32, more.num_sponsored.uint32) if more is not None else (0, 0)
    minimum = (2 + account.num_sub_entries.uint32 + counts[0] - counts[1]) * base_reserve
    return (
        account.seq_num.sequence_number.int64,
        account.num_sub_entries.uint32,
        *counts,
        minimum,
        max(0, account.balance.int64 - minimum - liabilities(account)[0]),
        tuple(account.thresholds.thresholds),
        account.flags.uint32,
        account.home_domain.string32.decode(),
        [(each.key.to_xdr_bytes(), each.weight.uint32) for each in account.signers],
    )


def shown_account(state: AccountState) -> tuple[object, ...]:
    return (
        state.sequence,
        state.subentries,
        state.sponsoring,
        state.sponsored,
        state.minimum,
        state.spendable,
        (state.master_weight, state.low, state.medium, state.high),
        state.flags,
        state.home_domain,
        [
            (SignerKey.from_encoded_signer_key(each.key).to_xdr_object().to_xdr_bytes(), each.weight)
            for each in state.signers
        ],
    )


def expected_trustline(entry: xdr.LedgerEntry) -> tuple[object, ...]:
    line = entry.data.trust_line
    assert line is not None
    flags = line.flags.uint32
    allowed = "full" if flags & 1 else "maintain" if flags & 2 else "none"
    return (line.balance.int64, *liabilities(line), line.limit.int64, allowed, bool(flags & 4))


def shown_trustline(state: HoldingState) -> tuple[object, ...]:
    return (state.amount, state.selling, state.buying, state.limit, state.authorization, state.clawback)


@pytest.mark.parametrize("number", [*UNIFIED, *OLD, BATCH])
def test_absolute_values_equal_the_full_decode_for_every_account_of_a_real_ledger(
    fixtures: Path, number: int
) -> None:
    data = real_ledger(fixtures, number)
    ledger = scan_ledger(data)
    state = normalize(ledger, PUBNET, EventReader(PASSPHRASE), named_holders(ledger)).state
    base_reserve, left = sdk_state(data)
    accounts = {each.account: each for each in state.accounts}
    holdings = {(each.account, each.asset.reference): each for each in state.holdings}
    named = 0
    for encoded, entry in left.items():
        key = xdr.LedgerKey.from_xdr_bytes(encoded)
        owner = (key.account or key.trust_line).account_id.account_id.ed25519.uint256  # type: ignore[union-attr]
        holder = StrKey.encode_ed25519_public_key(owner)
        asset = "native"
        if key.trust_line is not None:
            found = Asset.from_xdr_object(key.trust_line.asset)
            asset = f"{found.code}:{found.issuer}"
        held = holdings[holder, asset]
        assert held.exists == (entry is not None)
        if entry is None:
            assert held.amount == 0
        elif key.account is not None:
            assert shown_account(accounts[holder]) == expected_account(entry, base_reserve)
            assert (held.amount, held.selling, held.buying) == (
                entry.data.account.balance.int64,  # type: ignore[union-attr]
                *liabilities(entry.data.account),
            )
        else:
            assert shown_trustline(held) == expected_trustline(entry)
        named += 1
    assert named == sum(not each.account.startswith("C") for each in state.holdings)
    assert len(accounts) == len(state.accounts)
    assert len(holdings) == len(state.holdings)


def left_of(town: Town, meta: xdr.LedgerCloseMeta, *ours: Keypair) -> ChainState:
    ledger = scan_ledger(meta.to_xdr_bytes())
    names = [each.public_key for each in ours]
    return normalize(ledger, ChainId("stellar:devnet"), town.reader, names).state


def test_nothing_is_told_of_an_account_that_the_ledger_does_not_touch(town: Town) -> None:
    ada, bob, carol = town.settle("ada"), town.settle("bob"), town.settle("carol")
    meta = town.close(town.sign(ada, [Payment(bob.public_key, Asset.native(), "1")]))
    assert left_of(town, meta, carol) == ChainState()
    assert [each.account for each in left_of(town, meta, bob).holdings] == [bob.public_key]


def test_options_signers_and_trust_show_in_the_state(town: Town) -> None:
    issuer, ada, friend = town.settle("issuer"), town.settle("ada"), town.settle("friend")
    town.close(town.sign(issuer, [SetOptions(set_flags=AuthorizationFlag(10))]))
    usd = Asset("USD", issuer.public_key)
    options = SetOptions(
        master_weight=2, low_threshold=1, med_threshold=2, high_threshold=3, home_domain="example.org"
    )
    signer = SetOptions(signer=Signer.ed25519_public_key(friend.public_key, 7))
    meta = town.close(town.sign(ada, [signer, ChangeTrust(usd, limit="50"), options]))
    state = left_of(town, meta, ada)
    (account,) = state.accounts
    assert (account.master_weight, account.low, account.medium, account.high) == (2, 1, 2, 3)
    assert [(each.key, each.weight, each.sponsor) for each in account.signers] == [
        (friend.public_key, 7, None)
    ]
    assert (account.home_domain, account.subentries, account.minimum) == ("example.org", 2, 4 * RESERVE)
    lumens, line = sorted(state.holdings, key=lambda each: each.asset.reference != "native")
    assert account.spendable == lumens.amount - account.minimum
    assert (line.amount, line.limit, line.authorization, line.clawback) == (0, 50 * 10**7, "full", True)
    assert (line.exists, line.before) == (True, 0)


def test_an_account_that_merges_is_told_as_gone(town: Town) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    meta = town.close(town.sign(ada, [AccountMerge(bob.public_key)]))
    state = left_of(town, meta, ada)
    assert state.accounts == (AccountState(account=ada.public_key, exists=False),)
    (held,) = state.holdings
    assert (held.exists, held.before, held.amount) == (False, 1000 * 10**7, 0)
    back = town.close(town.sign(town.root, [CreateAccount(ada.public_key, "5")]))
    (held,) = left_of(town, back, ada).holdings
    assert (held.exists, held.before, held.amount) == (True, 0, 5 * 10**7)


def test_a_trustline_that_goes_comes_and_goes_is_told_once_as_gone(town: Town) -> None:
    issuer, bob = town.settle("issuer"), town.settle("bob")
    usd = Asset("USD", issuer.public_key)
    town.close(town.sign(bob, [ChangeTrust(usd)]))
    town.close(town.sign(issuer, [Payment(bob.public_key, usd, "3")]))
    gone, again = ChangeTrust(usd, limit="0"), ChangeTrust(usd)
    meta = town.close(town.sign(bob, [Payment(issuer.public_key, usd, "3"), gone, again, gone]))
    (line,) = [each for each in left_of(town, meta, bob).holdings if not each.asset.is_native]
    assert (line.exists, line.before, line.amount, line.limit) == (False, 3 * 10**7, 0, None)


def account_entry(owner: Keypair, balance: int, **more: Any) -> xdr.LedgerEntryData:
    """An account with every extension. `sponsors`: of its two signers."""
    none = xdr.AccountEntryExtensionV2Ext(0)
    sponsors = [xdr.SponsorshipDescriptor(each and each.xdr_account_id()) for each in more["sponsors"]]
    counts = xdr.AccountEntryExtensionV2(
        xdr.Uint32(more["sponsored"]), xdr.Uint32(more["sponsoring"]), sponsors, none
    )
    v1 = xdr.AccountEntryExtensionV1(
        xdr.Liabilities(buying=xdr.Int64(3), selling=xdr.Int64(4)),
        xdr.AccountEntryExtensionV1Ext(2, v2=counts),
    )
    signers = [
        xdr.Signer(key.to_xdr_object(), xdr.Uint32(weight))
        for key, weight in ((SignerKey.sha256_hash(b"\1" * 32), 1), (SignerKey.pre_auth_tx(b"\2" * 32), 2))
    ]
    entry = xdr.AccountEntry(
        owner.xdr_account_id(),
        xdr.Int64(balance),
        xdr.SequenceNumber(xdr.Int64(9)),
        xdr.Uint32(2),
        None,
        xdr.Uint32(0),
        xdr.String32(b"\x00\xff"),
        xdr.Thresholds(b"\1\0\0\0"),
        signers,
        xdr.AccountEntryExt(1, v1=v1),
    )
    return xdr.LedgerEntryData(xdr.LedgerEntryType.ACCOUNT, account=entry)


def test_sponsorship_moves_the_minimum_and_names_the_sponsors(town: Town) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    before = account_entry(ada, 50_000_000, sponsored=0, sponsoring=0, sponsors=[None, None])
    after = account_entry(ada, 50_000_000, sponsored=3, sponsoring=1, sponsors=[None, bob])
    envelope = town.sign(
        bob, [BeginSponsoringFutureReserves(ada.public_key), EndSponsoringFutureReserves(ada.public_key)]
    )
    success = xdr.BeginSponsoringFutureReservesResult(
        xdr.BeginSponsoringFutureReservesResultCode.BEGIN_SPONSORING_FUTURE_RESERVES_SUCCESS
    )
    kind = xdr.OperationType.BEGIN_SPONSORING_FUTURE_RESERVES
    results = [xdr.OperationResultTr(kind, begin_sponsoring_future_reserves_result=success)]
    changes = changed(before, after)
    assert changes[1].updated is not None
    sponsorship = xdr.LedgerEntryExtensionV1(
        xdr.SponsorshipDescriptor(bob.xdr_account_id()), xdr.LedgerEntryExtensionV1Ext(0)
    )
    changes[1].updated.ext = xdr.LedgerEntryExt(1, v1=sponsorship)
    (account,) = left_of(town, forge(town, envelope, results * 2, [changes, []]), ada).accounts
    # Two of its own, two signers, one for somebody else; three of them paid by bob.
    assert (account.sponsoring, account.sponsored, account.minimum) == (1, 3, 2 * RESERVE)
    assert account.spendable == 50_000_000 - 2 * RESERVE - 4
    assert account.sponsor == bob.public_key
    assert [each.sponsor for each in account.signers] == [None, bob.public_key]
    assert [each.key[0] for each in account.signers] == ["X", "T"]
    assert account.home_domain == r"\x00\xff"


@pytest.mark.parametrize("value", [b"1", None])
def test_the_entry_that_asks_for_a_memo_is_told_and_no_other(town: Town, value: bytes | None) -> None:
    ada = town.settle("ada")
    envelope = town.sign(ada, [ManageData("config.memo_required", value)])
    success = xdr.ManageDataResult(xdr.ManageDataResultCode.MANAGE_DATA_SUCCESS)
    result = xdr.OperationResultTr(xdr.OperationType.MANAGE_DATA, manage_data_result=success)

    def datum(name: bytes, said: bytes) -> xdr.LedgerEntryData:
        entry = xdr.DataEntry(
            ada.xdr_account_id(), xdr.String64(name), xdr.DataValue(said), xdr.DataEntryExt(0)
        )
        return xdr.LedgerEntryData(xdr.LedgerEntryType.DATA, data=entry)

    asked = datum(b"config.memo_required", value or b"1")
    shown = created(asked) if value else changed(asked, None)
    meta = forge(town, envelope, [result], [[*shown, *created(datum(b"config.memo_requiredX", b"1"))]])
    assert [(each.name, each.value) for each in left_of(town, meta, ada).data] == [
        ("config.memo_required", value)
    ]


def test_what_an_upgrade_of_the_network_changes_is_told(town: Town) -> None:
    """Where the base reserve rises, offers are deleted, and what they reserved is free again. Source: CAP-4."""
    ada = town.settle("ada")
    before = account_entry(ada, 50_000_000, sponsored=0, sponsoring=0, sponsors=[None, None])
    after = account_entry(ada, 50_000_000, sponsored=0, sponsoring=0, sponsors=[None, None])
    assert after.account is not None
    assert after.account.ext.v1 is not None
    after.account.ext.v1.liabilities = xdr.Liabilities(buying=xdr.Int64(0), selling=xdr.Int64(0))
    meta = town.close()
    assert meta.v2 is not None
    header = meta.v2.ledger_header
    header.header.base_reserve = xdr.Uint32(10_000_000)
    header.hash = xdr.Hash(hashlib.sha256(header.header.to_xdr_bytes()).digest())
    raised = xdr.LedgerUpgrade(
        xdr.LedgerUpgradeType.LEDGER_UPGRADE_BASE_RESERVE, new_base_reserve=xdr.Uint32(10_000_000)
    )
    changes = xdr.LedgerEntryChanges(changed(before, after))
    meta.v2.upgrades_processing.append(xdr.UpgradeEntryMeta(raised, changes))
    state = left_of(town, meta, ada)
    assert [(each.selling, each.buying, each.amount) for each in state.holdings] == [(0, 0, 50_000_000)]
    assert [(each.base_reserve, each.minimum, each.spendable) for each in state.accounts] == [
        (10_000_000, 40_000_000, 10_000_000)
    ]
    assert ada.public_key in named_holders(scan_ledger(meta.to_xdr_bytes()))
