"""Events of the development network carry the tags and forms that CAP-67 asks for; no input breaks the network."""

import base64
import random
from collections import Counter

import pytest
from stellar_sdk import (
    Asset,
    ChangeTrust,
    Claimant,
    ClawbackClaimableBalance,
    CreateAccount,
    CreateClaimableBalance,
    HashMemo,
    IdMemo,
    Keypair,
    Memo,
    MuxedAccount,
    NoneMemo,
    Operation,
    Payment,
    ReturnHashMemo,
    StrKey,
    TextMemo,
    TransactionBuilder,
    scval,
    xdr,
)

from devnet.stellar.envelope import EnvelopeInvalid
from tests.unit.test_devnet_stellar_proof import Mix, prove
from tests.unit.test_devnet_stellar_results import NOBODY, XLM, Bench, pay

SEED = 4711


@pytest.fixture
def bench() -> Bench:
    return Bench()


def events_of(
    bench: Bench, source: Keypair, *operations: Operation, memo: Memo | None = None
) -> list[list[object]]:
    """Per event: name, holders, asset, then amount or the map of amount and tag."""

    def edit(builder: TransactionBuilder) -> None:
        builder.add_memo(NoneMemo() if memo is None else memo).add_time_bounds(0, 0)

    envelope = bench.envelope(source, *operations, edit=edit)
    assert bench.submit(envelope) == ("PENDING", "")
    bench.network.close()
    row = bench.network.transaction(envelope.hash())
    assert row.successful, row.result
    contract_events = [e for op in row.processing.tx_apply_processing.v4.operations for e in op.events]
    return [
        [*(scval.to_native(topic) for topic in event.body.v0.topics), scval.to_native(event.body.v0.data)]
        for event in contract_events
    ]


@pytest.mark.parametrize(
    ("memo", "tag"),
    [
        (IdMemo(2**64 - 1), 2**64 - 1),
        (TextMemo("gruß"), "gruß"),
        (HashMemo(b"h" * 32), b"h" * 32),
        (ReturnHashMemo(b"r" * 32), b"r" * 32),
    ],
)
def test_memo_tags_every_payment_of_a_transaction(bench: Bench, memo: Memo, tag: object) -> None:
    events = events_of(bench, bench.alice, pay(to=bench.bob), pay("2", to=bench.bob), memo=memo)
    assert [event[-1] for event in events] == [
        {"amount": 10_000_000, "to_muxed_id": tag},
        {"amount": 20_000_000, "to_muxed_id": tag},
    ]


def test_muxed_destination_wins_over_the_memo(bench: Bench) -> None:
    muxed = MuxedAccount(bench.bob.public_key, 7).account_muxed
    [event] = events_of(bench, bench.alice, Payment(muxed, XLM, "1"), memo=IdMemo(9))
    assert event[2].address == bench.bob.public_key
    assert event[-1] == {"amount": 10_000_000, "to_muxed_id": 7}


def test_untagged_payment_is_a_plain_amount_of_the_assets_own_contract(bench: Bench) -> None:
    envelope = bench.envelope(bench.alice, pay(to=bench.bob))
    bench.submit(envelope)
    bench.network.close()
    meta = bench.network.transaction(envelope.hash()).processing.tx_apply_processing.v4
    [event] = meta.operations[0].events
    contract = StrKey.encode_contract(event.contract_id.contract_id.hash)
    assert contract == XLM.contract_id(bench.network.passphrase)
    assert scval.to_native(event.body.v0.data) == 10_000_000


def test_created_account_carries_the_memo(bench: Bench) -> None:
    [event] = events_of(bench, bench.alice, CreateAccount(NOBODY.public_key, "5"), memo=TextMemo("hello"))
    assert event[0] == "transfer"
    assert event[-1] == {"amount": 50_000_000, "to_muxed_id": "hello"}


def test_issuer_side_makes_a_mint_or_a_burn_and_burns_have_no_tag(bench: Bench) -> None:
    bench.apply(bench.alice, ChangeTrust(bench.usd))
    [mint] = events_of(bench, bench.issuer, pay("3", to=bench.alice, asset=bench.usd), memo=IdMemo(1))
    [burn] = events_of(bench, bench.alice, pay("2", to=bench.issuer, asset=bench.usd), memo=IdMemo(2))
    asset = f"USDC:{bench.issuer.public_key}"
    assert [mint[0], mint[2], mint[3]] == ["mint", asset, {"amount": 30_000_000, "to_muxed_id": 1}]
    assert [burn[0], burn[2], burn[3]] == ["burn", asset, 20_000_000]


def test_issuer_claws_back_a_claimable_balance(bench: Bench) -> None:
    bench.apply(bench.alice, ChangeTrust(bench.usd))
    bench.apply(bench.issuer, pay("3", to=bench.alice, asset=bench.usd))
    made = bench.envelope(
        bench.alice, CreateClaimableBalance(bench.usd, "3", [Claimant(bench.bob.public_key)])
    )
    bench.submit(made)
    bench.network.close()
    outcome = (
        bench.network.transaction(made.hash()).result.result.results[0].tr.create_claimable_balance_result
    )
    balance_id = outcome.balance_id.to_xdr_bytes().hex()
    wrong = bench.apply(bench.bob, ClawbackClaimableBalance(balance_id))
    assert wrong == "txFAILED CLAWBACK_CLAIMABLE_BALANCE_NOT_ISSUER"
    [event] = events_of(bench, bench.issuer, ClawbackClaimableBalance(balance_id), memo=IdMemo(3))
    assert [event[0], event[-1]] == ["clawback", 30_000_000]


def test_native_payment_to_oneself_moves_nothing_and_succeeds(bench: Bench) -> None:
    before = bench.network.balance(bench.alice.public_key)
    [event] = events_of(bench, bench.alice, pay("99999", to=bench.alice))
    assert event[0] == "transfer"
    assert bench.network.balance(bench.alice.public_key) == before - 100


def test_fee_event_names_the_payer_of_a_fee_bump(bench: Bench) -> None:
    inner = bench.envelope(bench.alice, pay(to=bench.bob))
    bumped = TransactionBuilder.build_fee_bump_transaction(bench.bob, 300, inner, bench.network.passphrase)
    bumped.sign(bench.bob)
    bench.submit(bumped)
    bench.network.close()
    [event] = bench.network.transaction(bumped.hash()).processing.tx_apply_processing.v4.events
    topics = [scval.to_native(topic) for topic in event.event.body.v0.topics]
    assert (topics[0], topics[1].address) == ("fee", bench.bob.public_key)
    assert scval.to_native(event.event.body.v0.data) == 200


def test_mutated_envelopes_are_answered_and_the_chain_still_proves() -> None:
    mix, dice = Mix(SEED), random.Random(SEED)
    for source in mix.people:
        mix.send(source, [Payment(mix.people[0].public_key, Asset.native(), "1"), ChangeTrust(mix.assets[0])])
    rows = mix.network.transactions_of(mix.network.latest.sequence)
    corpus = [row.frame.envelope.to_xdr_bytes() for row in rows]
    answers: Counter[str] = Counter()
    for _ in range(600):
        raw = bytearray(dice.choice(corpus))
        for _ in range(dice.randint(1, 4)):
            raw[dice.randrange(len(raw))] = dice.choice([0, 1, 2, 3, 0x7F, 0xFF, dice.randrange(256)])
        try:
            answers[mix.network.submit(base64.b64encode(raw).decode())["status"]] += 1
        except EnvelopeInvalid:
            answers["invalid"] += 1
    assert set(answers) <= {"invalid", "ERROR", "TRY_AGAIN_LATER"}, f"seed {SEED}: {answers}"
    assert prove(mix.network.close(), mix.network.network_id) == len(mix.people)


def test_contract_data_without_a_contract_is_malformed(bench: Bench) -> None:
    envelope = bench.envelope(bench.alice, pay(to=bench.bob))
    body = envelope.to_xdr_object()
    resources = xdr.SorobanResources(xdr.LedgerFootprint([], []), xdr.Uint32(0), xdr.Uint32(0), xdr.Uint32(0))
    data = xdr.SorobanTransactionData(xdr.SorobanTransactionDataExt(0), resources, xdr.Int64(0))
    body.v1.tx.ext = xdr.TransactionExt(1, soroban_data=data)
    answer = bench.network.submit(body.to_xdr())
    assert xdr.TransactionResult.from_xdr(answer["errorResultXdr"]).result.code.name == "txMALFORMED"
