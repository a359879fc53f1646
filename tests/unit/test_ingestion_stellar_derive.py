"""What is derived where core told nothing: the same as the local network tells, and CAP-67 by hand for what it does not apply."""

from __future__ import annotations

import hashlib

import pytest
from stellar_sdk import (
    AccountMerge,
    Asset,
    AuthorizationFlag,
    ChangeTrust,
    Claimant,
    ClaimClaimableBalance,
    Clawback,
    ClawbackClaimableBalance,
    CreateClaimableBalance,
    HashMemo,
    IdMemo,
    Keypair,
    LiquidityPoolAsset,
    LiquidityPoolDeposit,
    LiquidityPoolWithdraw,
    MuxedAccount,
    Operation,
    Payment,
    SetOptions,
    SetTrustLineFlags,
    StrKey,
    TextMemo,
    TransactionBuilder,
    TrustLineFlags,
    xdr,
)

from ingestion.model import BlockFacts
from ingestion.stellar.derive.events import derive_events
from ingestion.stellar.movements import TokenEvent
from ingestion.stellar.normalize import named_holders, normalize
from ingestion.stellar.scan.ledger import ScannedLedger, scan_ledger
from ingestion.stellar.senders import locate_envelopes, read_sender
from tests.fakes.stellar_town import CHAIN, Town, before_cap_67, changed, created, forge


@pytest.fixture
def town() -> Town:
    return Town()


def same_both_ways(town: Town, meta: xdr.LedgerCloseMeta) -> BlockFacts:
    """The ledger's facts, after they were told and derived alike and proved both ways."""
    told = town.facts(meta)
    assert told.transactions
    for version in (2, 3):
        ledger = scan_ledger(before_cap_67(meta, version).to_xdr_bytes())
        assert normalize(ledger, CHAIN, town.reader, named_holders(ledger), audit=True) == told
    return told


def events_of(town: Town, meta: xdr.LedgerCloseMeta) -> list[tuple[str, str, str, str, int]]:
    """The derived movements of a ledger with one transaction: kind, asset, source, destination, amount."""
    return _derived(town, scan_ledger(meta.to_xdr_bytes()))


def _derived(town: Town, ledger: ScannedLedger) -> list[tuple[str, str, str, str, int]]:
    network_id = hashlib.sha256(town.network.passphrase.encode()).digest()
    (scanned,) = ledger.transactions
    sender = read_sender(ledger.data, locate_envelopes(ledger, network_id)[scanned.hash], network_id)
    found = derive_events(ledger, scanned, sender, town.reader)
    return [_row(event) for event in found if event.kind != "fee"]


def _row(event: TokenEvent) -> tuple[str, str, str, str, int]:
    return event.kind, event.asset, event.source, event.destination, event.amount


@pytest.mark.parametrize(
    ("muxed", "memo"),
    [
        (7, None),
        (7, IdMemo(8)),
        (None, IdMemo(8)),
        (None, TextMemo(b"a\x00")),
        (None, HashMemo(b"\1" * 32)),
        (None, None),
    ],
)
def test_a_payment_keeps_its_tag_or_words(town: Town, muxed: int | None, memo: IdMemo | None) -> None:
    ada, bob = town.settle("ada"), town.settle("bob")
    to = bob.public_key if muxed is None else MuxedAccount(bob.public_key, muxed).account_muxed
    payments = [Payment(to, Asset.native(), amount) for amount in ("1", "2")]
    facts = same_both_ways(town, town.close(town.sign(ada, payments, memo)))
    assert len(facts.movements) == 2
    assert len({(each.tag, each.memo) for each in facts.movements}) == 1


def test_a_new_account_a_merge_and_a_failure(town: Town) -> None:
    ada, bob, carol = town.settle("ada"), town.settle("bob"), town.settle("carol")
    poor = town.sign(carol, [Payment(bob.public_key, Asset.native(), "1000000")])
    facts = same_both_ways(town, town.close(town.sign(ada, [AccountMerge(bob.public_key)], IdMemo(4)), poor))
    assert [(each.account, each.tag) for each in facts.movements] == [(bob.public_key, 4)]
    assert {each.succeeded for each in facts.transactions} == {True, False}


def test_a_fee_bump_is_paid_by_the_outer_account(town: Town) -> None:
    ada, bob, carol = town.settle("ada"), town.settle("bob"), town.settle("carol")
    inner = town.sign(ada, [Payment(bob.public_key, Asset.native(), "1")], IdMemo(9))
    outer = TransactionBuilder.build_fee_bump_transaction(carol, 200, inner, town.network.passphrase)
    outer.sign(carol)
    facts = same_both_ways(town, town.close(outer))
    assert [each.tag for each in facts.movements] == [9]


def test_issuing_burning_clawing_back_and_claiming(town: Town) -> None:
    issuer, bob = town.settle("issuer"), town.settle("bob")
    usd = Asset("USD", issuer.public_key)
    flags = AuthorizationFlag.AUTHORIZATION_REVOCABLE | AuthorizationFlag.AUTHORIZATION_CLAWBACK_ENABLED
    town.close(town.sign(issuer, [SetOptions(set_flags=flags)]))
    same_both_ways(town, town.close(town.sign(bob, [ChangeTrust(usd)])))

    def close(source: Keypair, *operations: Operation) -> BlockFacts:
        return same_both_ways(town, town.close(town.sign(source, operations)))

    assert close(issuer, Payment(bob.public_key, usd, "9")).movements[0].source == ""
    assert close(bob, Payment(issuer.public_key, usd, "1")).departures[0].amount == 10**7
    assert close(issuer, Clawback(usd, bob.public_key, "1")).departures[0].account == bob.public_key
    close(issuer, Payment(issuer.public_key, usd, "5"))
    locked = town.sign(bob, [CreateClaimableBalance(usd, "2", [Claimant(bob.public_key)])])
    assert same_both_ways(town, town.close(locked)).departures[0].amount == 2 * 10**7
    claim = ClaimClaimableBalance(locked.transaction.get_claimable_balance_id(0))
    assert close(bob, claim).movements[0].source.startswith("B")
    again = town.sign(bob, [CreateClaimableBalance(usd, "3", [Claimant(bob.public_key)])])
    town.close(again)
    close(issuer, ClawbackClaimableBalance(again.transaction.get_claimable_balance_id(0)))


def test_an_issuer_that_pays_itself_in_anothers_transaction_is_seen(town: Town) -> None:
    """No entry changes and no fee is the issuer's, so only the operation tells. Source: pubnet ledger 4522126."""
    issuer, ada = town.settle("issuer"), town.settle("ada")
    usd = Asset("USD", issuer.public_key)
    payment = Payment(issuer.public_key, usd, "5", source=issuer.public_key)
    envelope = town.sign(ada, [payment])
    success = xdr.PaymentResult(xdr.PaymentResultCode.PAYMENT_SUCCESS)
    result = xdr.OperationResultTr(xdr.OperationType.PAYMENT, payment_result=success)
    ledger = scan_ledger(forge(town, envelope, [result], [[]]).to_xdr_bytes())
    facts = normalize(ledger, CHAIN, town.reader, {issuer.public_key})
    assert [(each.source, each.account, each.amount) for each in facts.movements] == [
        (issuer.public_key, issuer.public_key, 5 * 10**7)
    ]


class Pool:
    """A constant-product pool of lumens and an issued asset."""

    def __init__(self, issuer: Keypair) -> None:
        self.asset = Asset("USD", issuer.public_key)
        self.terms = LiquidityPoolAsset(Asset.native(), self.asset)
        self.id = bytes.fromhex(self.terms.liquidity_pool_id)
        self.address = StrKey.encode_liquidity_pool(self.id)
        self.name = f"USD:{issuer.public_key}"

    def entry(self, lumens: int, issued: int) -> xdr.LedgerEntryData:
        """The pool with these reserves."""
        body = xdr.LiquidityPoolEntryConstantProduct(
            xdr.LiquidityPoolConstantProductParameters(
                Asset.native().to_xdr_object(), self.asset.to_xdr_object(), xdr.Int32(30)
            ),
            xdr.Int64(lumens),
            xdr.Int64(issued),
            xdr.Int64(100),
            xdr.Int64(1),
        )
        kind = xdr.LiquidityPoolType.LIQUIDITY_POOL_CONSTANT_PRODUCT
        return xdr.LedgerEntryData(
            xdr.LedgerEntryType.LIQUIDITY_POOL,
            liquidity_pool=xdr.LiquidityPoolEntry(
                xdr.PoolID(xdr.Hash(self.id)), xdr.LiquidityPoolEntryBody(kind, body)
            ),
        )

    def balance(self, balance_id: bytes, asset: Asset, amount: int) -> xdr.LedgerEntryData:
        """What a revocation leaves behind."""
        return xdr.LedgerEntryData(
            xdr.LedgerEntryType.CLAIMABLE_BALANCE,
            claimable_balance=xdr.ClaimableBalanceEntry(
                xdr.ClaimableBalanceID(
                    xdr.ClaimableBalanceIDType.CLAIMABLE_BALANCE_ID_TYPE_V0, xdr.Hash(balance_id)
                ),
                [],
                asset.to_xdr_object(),
                xdr.Int64(amount),
                xdr.ClaimableBalanceEntryExt(0),
            ),
        )


def result_of(kind: xdr.OperationType, **result: object) -> xdr.OperationResultTr:
    return xdr.OperationResultTr(kind, **result)  # type: ignore[arg-type]


def test_a_deposit_into_a_pool_and_a_withdrawal_that_rounds_to_nothing(town: Town) -> None:
    issuer, ada = town.settle("issuer"), town.settle("ada")
    pool = Pool(issuer)
    deposit = town.sign(ada, [LiquidityPoolDeposit(pool.terms.liquidity_pool_id, "1", "2", "0.1", "10")])
    done = xdr.LiquidityPoolDepositResult(xdr.LiquidityPoolDepositResultCode.LIQUIDITY_POOL_DEPOSIT_SUCCESS)
    result = result_of(xdr.OperationType.LIQUIDITY_POOL_DEPOSIT, liquidity_pool_deposit_result=done)
    grown = changed(pool.entry(100, 50), pool.entry(110, 57))
    assert events_of(town, forge(town, deposit, [result], [grown])) == [
        ("transfer", "native", ada.public_key, pool.address, 10),
        ("transfer", pool.name, ada.public_key, pool.address, 7),
    ]
    withdrawal = town.sign(ada, [LiquidityPoolWithdraw(pool.terms.liquidity_pool_id, "1", "0", "0")])
    left = xdr.LiquidityPoolWithdrawResult(
        xdr.LiquidityPoolWithdrawResultCode.LIQUIDITY_POOL_WITHDRAW_SUCCESS
    )
    result = result_of(xdr.OperationType.LIQUIDITY_POOL_WITHDRAW, liquidity_pool_withdraw_result=left)
    shrunk = changed(pool.entry(100, 50), pool.entry(99, 50))
    assert events_of(town, forge(town, withdrawal, [result], [shrunk])) == [
        ("transfer", "native", pool.address, ada.public_key, 1),
        ("transfer", pool.name, pool.address, ada.public_key, 0),
    ]


def test_an_issuer_in_a_pool_mints_into_it_and_burns_out_of_it(town: Town) -> None:
    issuer = town.settle("issuer")
    pool = Pool(issuer)
    deposit = town.sign(issuer, [LiquidityPoolDeposit(pool.terms.liquidity_pool_id, "1", "2", "0.1", "10")])
    done = xdr.LiquidityPoolDepositResult(xdr.LiquidityPoolDepositResultCode.LIQUIDITY_POOL_DEPOSIT_SUCCESS)
    result = result_of(xdr.OperationType.LIQUIDITY_POOL_DEPOSIT, liquidity_pool_deposit_result=done)
    grown = changed(pool.entry(100, 50), pool.entry(110, 57))
    assert events_of(town, forge(town, deposit, [result], [grown])) == [
        ("transfer", "native", issuer.public_key, pool.address, 10),
        ("mint", pool.name, "", pool.address, 7),
    ]


@pytest.mark.parametrize("ends", [False, True])
def test_a_revoked_participant_of_a_pool_gets_claimable_balances(town: Town, ends: bool) -> None:
    """Lumens and the asset leave the pool for two balances whose ids follow from the operation; the pool may end with it."""
    issuer, ada = town.settle("issuer"), town.settle("ada")
    pool = Pool(issuer)
    envelope, result = _revocation(town, issuer, ada, pool.asset)
    ids = [
        _revoke_id(issuer, envelope.transaction.sequence, pool.id, asset)
        for asset in (Asset.native(), pool.asset)
    ]
    changes = [
        *changed(pool.entry(100, 50), None if ends else pool.entry(60, 20)),
        *created(pool.balance(ids[0], Asset.native(), 100 if ends else 40)),
        *created(pool.balance(ids[1], pool.asset, 50 if ends else 30)),
    ]
    names = [StrKey.encode_claimable_balance(b"\0" + each) for each in ids]
    assert events_of(town, forge(town, envelope, [result], [changes])) == [
        ("transfer", "native", pool.address, names[0], 100 if ends else 40),
        ("transfer", pool.name, pool.address, names[1], 50 if ends else 30),
    ]


def test_what_a_revoked_issuer_had_in_a_pool_is_burned(town: Town) -> None:
    """The trustor issues the pool's other asset: of its own asset no balance can be made, so it is gone."""
    issuer, ada = town.settle("issuer"), town.settle("ada")
    pool = Pool(ada)
    envelope, result = _revocation(town, issuer, ada, Asset("EUR", issuer.public_key))
    balance_id = _revoke_id(issuer, envelope.transaction.sequence, pool.id, Asset.native())
    changes = [
        *changed(pool.entry(100, 50), pool.entry(60, 20)),
        *created(pool.balance(balance_id, Asset.native(), 40)),
    ]
    assert events_of(town, forge(town, envelope, [result], [changes])) == [
        ("transfer", "native", pool.address, StrKey.encode_claimable_balance(b"\0" + balance_id), 40),
        ("burn", pool.name, pool.address, "", 30),
    ]


@pytest.mark.parametrize(("after", "extra"), [(107, ("mint", 7)), (95, ("burn", 5)), (100, None)])
def test_before_protocol_8_lumens_that_nobody_told_of_are_the_sources(
    town: Town, after: int, extra: tuple[str, int] | None
) -> None:
    """An entry that holds other lumens than before although none were moved; since protocol 8 nothing is made up for it."""
    issuer, ada = town.settle("issuer"), town.settle("ada")
    usd = Asset("USD", issuer.public_key)
    payment = town.sign(ada, [Payment(issuer.public_key, usd, "1")])
    success = xdr.PaymentResult(xdr.PaymentResultCode.PAYMENT_SUCCESS)
    result = result_of(xdr.OperationType.PAYMENT, payment_result=success)
    pool = Pool(issuer)
    changes = changed(pool.entry(100, 50), pool.entry(after, 50))
    ledger = scan_ledger(forge(town, payment, [result], [changes]).to_xdr_bytes())
    burned = ("burn", f"USD:{issuer.public_key}", ada.public_key, "", 10**7)
    assert _derived(town, ledger) == [burned]
    ledger.protocol = 7
    wanted = [burned]
    if extra is not None and extra[0] == "mint":
        wanted.insert(0, ("mint", "native", "", ada.public_key, extra[1]))
    elif extra is not None:
        wanted.append(("burn", "native", ada.public_key, "", extra[1]))
    assert _derived(town, ledger) == wanted


def _revocation(
    town: Town, issuer: Keypair, trustor: Keypair, asset: Asset
) -> tuple[object, xdr.OperationResultTr]:
    operation = SetTrustLineFlags(trustor.public_key, asset, clear_flags=TrustLineFlags.AUTHORIZED_FLAG)
    done = xdr.SetTrustLineFlagsResult(xdr.SetTrustLineFlagsResultCode.SET_TRUST_LINE_FLAGS_SUCCESS)
    result = result_of(xdr.OperationType.SET_TRUST_LINE_FLAGS, set_trust_line_flags_result=done)
    return town.sign(issuer, [operation]), result


def _revoke_id(source: Keypair, sequence: int, pool_id: bytes, asset: Asset) -> bytes:
    """sha256 of the preimage, packed by hand: type 7, the source, its sequence, operation 0, the pool, the asset."""
    packed = (
        (7).to_bytes(4, "big")
        + bytes(4)
        + source.raw_public_key()
        + sequence.to_bytes(8, "big")
        + bytes(4)
        + pool_id
        + asset.to_xdr_object().to_xdr_bytes()
    )
    return hashlib.sha256(packed).digest()
