"""Stellar's own rules of withdrawals at every boundary: when a bump is due and what it bids, and whom a payment can reach."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from stellar_sdk import xdr

from custody.chain_settings import STELLAR_RESERVE
from custody.chains.address import Destination
from custody.chains.ports import FeeQuote
from custody.chains.stellar.receivers import Receiver
from custody.chains.stellar.results import name_result
from custody.channels.plan import Refill, next_refill
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.errors import Refused
from custody.kernel.ids import AttemptId, VaultId, WithdrawalId, new_uuid
from custody.signing.model import FeeSlot
from custody.withdrawals.model import NO_MEMO, Attempt, Memo, PastRefill
from custody.withdrawals.receivers import opens_account
from custody.withdrawals.slots import Wait
from custody.withdrawals.slots_stellar import BumpSlot, Needless, bump_due, choose_bump

CHAIN = ChainId("stellar:devnet")
XLM = parse_asset_id("stellar:devnet/native")
USDC = parse_asset_id("stellar:devnet/USDC:GC5HBIPAKK3Z3OV5XKAIHLXPZLVDI6ERAJA2RWSQEKXFOXENLGOQIZR4")
ACCOUNT = "GC5HBIPAKK3Z3OV5XKAIHLXPZLVDI6ERAJA2RWSQEKXFOXENLGOQIZR4"
NOW = 1_000_000
SENT = Attempt(
    id=AttemptId(new_uuid()),
    withdrawal_id=WithdrawalId(new_uuid()),
    vault_id=VaultId(new_uuid()),
    chain=CHAIN,
    number=1,
    state="broadcast",
    sequence=7,
    max_ledger=112,
    max_time=NOW + 60,
    fee_bid=100,
    priority_fee=0,
    tx=b"tx",
    tx_hash="ab" * 32,
    sends=1,
    last_answer="accepted",
    height=None,
    succeeded=None,
    fee_paid=None,
    included_at=None,
)
DEAR, CHEAP = FeeQuote(fee_stroops=101), FeeQuote(fee_stroops=100)


@pytest.mark.parametrize(
    ("changes", "height", "bumps", "quote", "due"),
    [
        ({}, 101, 0, DEAR, False),
        ({}, 102, 0, DEAR, True),
        ({}, 102, 0, CHEAP, False),
        ({"last_answer": "try_later txINSUFFICIENT_FEE"}, 102, 0, CHEAP, True),
        ({"last_answer": "try_later txINSUFFICIENT_BALANCE"}, 102, 0, CHEAP, True),
        ({"last_answer": "unknown txBAD_SEQ"}, 102, 0, CHEAP, False),
        ({}, 103, 1, DEAR, False),
        ({}, 104, 1, DEAR, True),
        ({}, 109, 3, DEAR, False),
        ({}, 109, 2, DEAR, True),
        ({}, 110, 2, DEAR, False),
        ({}, None, 0, DEAR, False),
        ({"state": "signed"}, 105, 0, DEAR, False),
        ({"max_ledger": None}, 105, 0, DEAR, False),
    ],
)
def test_a_bump_is_due_for_what_is_stuck_for_its_fee_and_in_time(
    changes: dict[str, Any], height: int | None, bumps: int, quote: FeeQuote, due: bool
) -> None:
    attempt = replace(SENT, **changes)
    assert bump_due(attempt, own_height=height, valid_ledgers=12, bumps=bumps, quote=quote) is due


@pytest.mark.parametrize(
    ("bids", "quote", "cap", "fee"),
    [
        ([], 100, 10_000, 2000),
        ([], 1500, 10_000, 3000),
        ([], 9000, 10_000, 10_000),
        ([2000], 100, 20_000, 20_000),
        ([2000], 100, 19_999, None),
        ([], 100, 1999, None),
    ],
)
def test_a_bump_bids_ten_times_what_waits_or_nothing(
    bids: list[int], quote: int, cap: int, fee: int | None
) -> None:
    chosen = choose_bump(SENT, bids, FeeQuote(fee_stroops=quote), max_fee=cap, now=NOW)
    if fee is None:
        assert isinstance(chosen, Wait)
        assert chosen.reason == "bump_over_cap"
    else:
        assert chosen == BumpSlot(slot=FeeSlot(fee=fee), max_ledger=112, max_time=NOW + 60)


@pytest.mark.parametrize(
    ("inner", "now", "reason"),
    [
        (None, NOW, "nothing to bump"),
        (replace(SENT, state="included"), NOW, "nothing to bump"),
        (replace(SENT, max_ledger=None), NOW, "nothing to bump"),
        (SENT, NOW + 60, "bounds passed"),
    ],
)
def test_no_bump_is_made_around_what_has_ended(inner: Attempt | None, now: int, reason: str) -> None:
    assert choose_bump(inner, [], CHEAP, max_fee=10_000, now=now) == Needless(reason=reason)


PLAIN = Destination(chain=CHAIN, address=ACCOUNT, account=ACCOUNT, tag=None)
READY = Receiver(exists=True, trusts=True, authorized=True, room=1000, memo_required=False, height=1)
MEMO = Memo(type="id", value="7")


@pytest.mark.parametrize(
    ("changes", "asset", "amount", "memo", "tag", "answer"),
    [
        ({}, USDC, 1000, NO_MEMO, None, False),
        ({}, USDC, 1001, NO_MEMO, None, "destination_full"),
        ({"authorized": False}, USDC, 1, NO_MEMO, None, "trustline_unauthorized"),
        ({"trusts": False, "authorized": False}, USDC, 1, NO_MEMO, None, "trustline_missing"),
        ({"memo_required": True}, USDC, 1, NO_MEMO, None, "memo_required"),
        ({"memo_required": True}, USDC, 1, MEMO, None, False),
        ({"memo_required": True}, USDC, 1, NO_MEMO, 0, False),
        ({"exists": False}, USDC, STELLAR_RESERVE, NO_MEMO, None, "destination_missing"),
        ({"exists": False}, XLM, STELLAR_RESERVE, NO_MEMO, None, True),
        ({"exists": False}, XLM, STELLAR_RESERVE - 1, NO_MEMO, None, "below_reserve"),
        ({"exists": False}, XLM, STELLAR_RESERVE, MEMO, None, "destination_missing"),
        ({"exists": False}, XLM, STELLAR_RESERVE, NO_MEMO, 7, "destination_missing"),
    ],
)
def test_each_receiver_is_paid_opened_or_refused_by_its_reason(
    changes: dict[str, Any], asset: Any, amount: int, memo: Memo, tag: int | None, answer: bool | str
) -> None:
    destination, receiver = replace(PLAIN, tag=tag), replace(READY, **changes)
    if isinstance(answer, bool):
        assert opens_account(asset, amount, memo, destination, receiver) is answer
        assert opens_account(asset, amount, memo, destination, None) is False
        return
    with pytest.raises(Refused) as refused:
        opens_account(asset, amount, memo, destination, receiver)
    assert refused.value.code == answer


THEN = datetime(2026, 1, 1, tzinfo=UTC)
OPENED = PastRefill(is_open=False, paid=True, opens=True, changed_at=THEN)
UNPAID = replace(OPENED, paid=False)
COMING = replace(UNPAID, is_open=True)
LOW = STELLAR_RESERVE + 2 * 100


@pytest.mark.parametrize(
    ("past", "held", "wanted"),
    [
        ([], 0, Refill(number=1, amount=LOW * 2, opens=True)),
        ([COMING], 0, None),
        ([UNPAID], 0, Refill(number=2, amount=LOW * 2, opens=True)),
        ([OPENED], LOW, None),
        ([OPENED], LOW - 1, Refill(number=2, amount=LOW + 1, opens=False)),
        ([OPENED, COMING], 0, None),
        ([OPENED, UNPAID], 1, Refill(number=3, amount=LOW * 2 - 1, opens=False)),
    ],
)
def test_a_helper_is_opened_once_and_filled_when_it_can_pay_no_two_fees(
    past: list[PastRefill], held: int, wanted: Refill | None
) -> None:
    later = THEN + timedelta(minutes=1)
    assert next_refill(past, held=held, full=LOW * 2, fee_max=100, now=later) == wanted


@pytest.mark.parametrize(
    ("past", "pause"),
    [
        ([UNPAID], timedelta(minutes=1)),
        ([UNPAID] * 3, timedelta(minutes=4)),
        ([UNPAID] * 20, timedelta(days=1)),
        ([OPENED, UNPAID, UNPAID], timedelta(minutes=2)),
        ([UNPAID, UNPAID, OPENED], timedelta(0)),
    ],
)
def test_who_was_told_no_asks_again_after_a_pause_that_doubles(
    past: list[PastRefill], pause: timedelta
) -> None:
    before = next_refill(past, held=0, full=1, fee_max=1, now=THEN + pause - timedelta(microseconds=1))
    after = next_refill(past, held=0, full=1, fee_max=1, now=THEN + pause)
    assert after is not None
    assert after.number == len(past) + 1
    assert (before is None) is bool(pause)


def failed(operation: xdr.OperationResult) -> xdr.TransactionResult:
    body = xdr.TransactionResultResult(xdr.TransactionResultCode.txFAILED, results=[operation])
    return xdr.TransactionResult(xdr.Int64(100), body, xdr.TransactionResultExt(0))


def pays(code: xdr.PaymentResultCode) -> xdr.OperationResult:
    kind = xdr.OperationType.PAYMENT
    told = xdr.OperationResultTr(kind, payment_result=xdr.PaymentResult(code))
    return xdr.OperationResult(xdr.OperationResultCode.opINNER, tr=told)


@pytest.mark.parametrize(
    ("result", "name"),
    [
        (pays(xdr.PaymentResultCode.PAYMENT_NO_TRUST), "op_no_trust"),
        (pays(xdr.PaymentResultCode.PAYMENT_LINE_FULL), "op_line_full"),
        (pays(xdr.PaymentResultCode.PAYMENT_UNDERFUNDED), "op_underfunded"),
        (pays(xdr.PaymentResultCode.PAYMENT_NOT_AUTHORIZED), "op_not_authorized"),
        (pays(xdr.PaymentResultCode.PAYMENT_NO_DESTINATION), "op_no_destination"),
        (pays(xdr.PaymentResultCode.PAYMENT_SUCCESS), "txFAILED"),
        (xdr.OperationResult(xdr.OperationResultCode.opNO_ACCOUNT), "op_no_account"),
    ],
)
def test_a_failed_operation_is_named_also_inside_a_fee_bump(result: xdr.OperationResult, name: str) -> None:
    plain = failed(result)
    assert name_result(plain) == name
    inner = xdr.InnerTransactionResult(
        plain.fee_charged,
        xdr.InnerTransactionResultResult(plain.result.code, results=plain.result.results),
        xdr.InnerTransactionResultExt(0),
    )
    pair = xdr.InnerTransactionResultPair(xdr.Hash(bytes(32)), inner)
    code = xdr.TransactionResultCode.txFEE_BUMP_INNER_FAILED
    outer = xdr.TransactionResultResult(code, inner_result_pair=pair)
    assert name_result(replace_result(plain, outer)) == name


def replace_result(result: xdr.TransactionResult, body: xdr.TransactionResultResult) -> xdr.TransactionResult:
    return xdr.TransactionResult(result.fee_charged, body, result.ext)
