"""What sendTransaction says while a transaction waits, and after: the answers measured on a real node."""

import pytest
from stellar_sdk import BumpSequence, Keypair, TimeBounds, TransactionBuilder, xdr

from devnet.stellar.envelope import EnvelopeInvalid
from devnet.stellar.mempool import BAN_LEDGERS
from devnet.stellar.network import LocalNetwork
from tests.unit.test_devnet_stellar_results import Bench, pay, preconditions


@pytest.fixture
def bench() -> Bench:
    return Bench()


def bump(bench: Bench, envelope, payer: Keypair, base_fee: int):
    made = TransactionBuilder.build_fee_bump_transaction(payer, base_fee, envelope, bench.network.passphrase)
    made.sign(payer)
    return made


def test_same_envelope_while_pending_is_a_duplicate(bench: Bench) -> None:
    envelope = bench.envelope(bench.alice, BumpSequence(0))
    assert bench.submit(envelope) == ("PENDING", "")
    assert bench.submit(envelope) == ("DUPLICATE", "")


@pytest.mark.parametrize("shift", [0, 1])
def test_second_transaction_of_a_source_is_told_to_try_later(bench: Bench, shift: int) -> None:
    bench.submit(bench.envelope(bench.alice, BumpSequence(0)))
    assert bench.submit(bench.envelope(bench.alice, pay(to=bench.bob), shift=shift)) == (
        "TRY_AGAIN_LATER",
        "",
    )


def test_applied_envelope_is_told_to_try_later_for_a_while_then_bad_sequence(bench: Bench) -> None:
    envelope = bench.envelope(bench.alice, BumpSequence(0))
    bench.submit(envelope)
    for _ in range(BAN_LEDGERS):
        bench.network.close()
        assert bench.submit(envelope) == ("TRY_AGAIN_LATER", "")
    bench.network.close()
    assert bench.submit(envelope) == ("ERROR", "txBAD_SEQ")


def test_each_source_waits_on_its_own(bench: Bench) -> None:
    assert bench.submit(bench.envelope(bench.alice, BumpSequence(0))) == ("PENDING", "")
    assert bench.submit(bench.envelope(bench.bob, BumpSequence(0))) == ("PENDING", "")
    assert len(bench.network.close().v2.tx_processing) == 2


def test_transaction_that_becomes_too_late_in_the_queue_reaches_no_ledger() -> None:
    now = [1_700_000_000]
    bench = Bench(network=LocalNetwork(clock=lambda: now[0]))
    envelope = bench.envelope(
        bench.alice, BumpSequence(0), edit=preconditions(times=TimeBounds(0, now[0] + 5))
    )
    assert bench.submit(envelope) == ("PENDING", "")
    now[0] += 6
    assert bench.network.close().v2.tx_processing == []


@pytest.mark.parametrize(
    ("rate", "answer"), [(999, ("ERROR", "txINSUFFICIENT_FEE")), (1000, ("PENDING", ""))]
)
def test_fee_bump_replaces_a_waiting_transaction_at_ten_times_its_rate(
    bench: Bench, rate: int, answer: tuple[str, str]
) -> None:
    envelope = bench.envelope(bench.alice, BumpSequence(0))
    bench.submit(envelope)
    bumped = bump(bench, envelope, bench.bob, rate)
    assert bench.submit(bumped) == answer


def test_fee_bump_charges_its_payer_one_operation_more(bench: Bench) -> None:
    alice, bob = (bench.network.balance(k.public_key) for k in (bench.alice, bench.bob))
    bumped = bump(bench, bench.envelope(bench.alice, BumpSequence(0)), bench.bob, 100)
    assert bench.submit(bumped) == ("PENDING", "")
    bench.network.close()
    assert bench.network.balance(bench.alice.public_key) == alice
    assert bench.network.balance(bench.bob.public_key) == bob - 200


def test_failed_inner_transaction_of_a_fee_bump(bench: Bench) -> None:
    bumped = bump(bench, bench.envelope(bench.alice, pay("99999", to=bench.bob)), bench.bob, 100)
    bench.submit(bumped)
    bench.network.close()
    result = bench.network.transaction(bumped.hash()).result
    assert result.result.code == xdr.TransactionResultCode.txFEE_BUMP_INNER_FAILED
    assert result.result.inner_result_pair.result.fee_charged.int64 == 0
    assert result.fee_charged.int64 == 200


def test_invalid_inner_transaction_is_named_inside_the_fee_bump_result(bench: Bench) -> None:
    bumped = bump(bench, bench.envelope(bench.alice, BumpSequence(0), shift=3), bench.bob, 100)
    assert bench.submit(bumped) == ("ERROR", "txFEE_BUMP_INNER_FAILED txBAD_SEQ")


def test_unsigned_fee_bump_is_bad_auth(bench: Bench) -> None:
    bumped = bump(bench, bench.envelope(bench.alice, BumpSequence(0)), bench.bob, 100)
    bumped.signatures = []
    assert bench.submit(bumped) == ("ERROR", "txBAD_AUTH")


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", "AAAAAgAAAAA="])
def test_text_that_is_no_envelope_is_refused(bench: Bench, text: str) -> None:
    with pytest.raises(EnvelopeInvalid):
        bench.network.submit(text)


def test_old_v0_envelope_is_refused_by_name(bench: Bench) -> None:
    body = bench.envelope(bench.alice, BumpSequence(0)).to_xdr_object().v1
    tx = body.tx
    v0 = xdr.TransactionV0(
        tx.source_account.ed25519, tx.fee, tx.seq_num, None, tx.memo, tx.operations, xdr.TransactionV0Ext(0)
    )
    envelope = xdr.TransactionEnvelope(
        xdr.EnvelopeType.ENVELOPE_TYPE_TX_V0, v0=xdr.TransactionV0Envelope(v0, body.signatures)
    )
    with pytest.raises(EnvelopeInvalid, match="ENVELOPE_TYPE_TX_V0"):
        bench.network.submit(envelope.to_xdr())


def test_dropped_submission_is_answered_but_never_applied(bench: Bench) -> None:
    bench.network.order_faults({"drop_next": 1})
    envelope = bench.envelope(bench.alice, BumpSequence(0))
    assert bench.submit(envelope) == ("PENDING", "")
    assert bench.network.close().v2.tx_processing == []
    assert bench.submit(envelope) == ("PENDING", "")
    assert len(bench.network.close().v2.tx_processing) == 1


def test_delayed_submission_waits_for_its_ledger(bench: Bench) -> None:
    bench.network.order_faults({"delay_next": 1, "delay_ledgers": 2})
    bench.submit(bench.envelope(bench.alice, BumpSequence(0)))
    assert [len(bench.network.close().v2.tx_processing) for _ in range(3)] == [0, 0, 1]


def test_ordered_try_again_later_passes_after_its_count(bench: Bench) -> None:
    bench.network.order_faults({"try_again_later_next": 2})
    envelope = bench.envelope(bench.alice, BumpSequence(0))
    assert [bench.submit(envelope)[0] for _ in range(3)] == ["TRY_AGAIN_LATER", "TRY_AGAIN_LATER", "PENDING"]


def test_wrong_parent_is_served_once_under_a_fitting_hash(bench: Bench) -> None:
    bench.network.order_faults({"wrong_parent_next": 1})
    last = bench.network.latest.sequence
    bad, good = (bench.network.ledgers(last, 1)[0] for _ in range(2))
    parent = bench.network.ledgers(last - 1, 1)[0]
    assert good.header.header.previous_ledger_hash.hash == parent.hash
    assert bad.header.header.previous_ledger_hash.hash != parent.hash
    assert bad.hash == xdr.LedgerCloseMeta.from_xdr_bytes(bad.meta).v2.ledger_header.hash.hash != good.hash
