"""What each event of the business posts: a table that a bookkeeper could check."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid
from custody.kernel.money import Amount, AssetMismatch
from custody.ledger import postings
from custody.ledger.errors import REFUSALS
from custody.ledger.model import (
    Command,
    Hold,
    OpenAccount,
    PostHold,
    ResultCode,
    Reverse,
    Transfer,
    TransferCode,
    VoidHold,
)
from custody.ledger.transitions import ACCOUNTS, HOLDS

XLM, EUR = parse_asset_id("stellar:devnet/native"), parse_asset_id("fiat/EUR")
WALLET, OTHER, VAULT, BANK, OBJECT = (derived_uuid(n) for n in ("wallet", "other", "vault", "bank", "object"))
TEN = Amount(XLM, 10)
EUROS = Amount(EUR, 250)
DUE = datetime(2030, 1, 1, tzinfo=UTC)

DEPOSIT = postings.deposit_credited(deposit_id=OBJECT, vault_id=VAULT, wallet_id=WALLET, amount=TEN)
SUSPENDED = postings.deposit_suspended(deposit_id=OBJECT, vault_id=VAULT, amount=TEN)
MOVED = postings.wallet_transfer(
    transfer_id=OBJECT, source_wallet_id=WALLET, destination_wallet_id=OTHER, amount=TEN
)
FEE = postings.network_fee_paid(reference=OBJECT, vault_id=VAULT, fee=TEN)
RECEIPT = postings.receipt_credited(receipt_id=OBJECT, bank_account_id=BANK, wallet_id=WALLET, amount=EUROS)
UNKNOWN = postings.receipt_credited(receipt_id=OBJECT, bank_account_id=BANK, wallet_id=None, amount=EUROS)
WITHDRAWAL = postings.withdrawal_held(
    withdrawal_id=OBJECT, wallet_id=WALLET, vault_id=VAULT, amount=TEN, expires_at=DUE
)
PAYOUT = postings.payout_held(payout_id=OBJECT, wallet_id=WALLET, bank_account_id=BANK, amount=EUROS)
RETURNED = postings.payout_returned(payout_id=OBJECT, wallet_id=WALLET, bank_account_id=BANK, amount=EUROS)


@pytest.mark.parametrize(
    ("commands", "kind", "debit", "credit", "code"),
    [
        (DEPOSIT, Transfer, ("vault", VAULT), ("wallet", WALLET), TransferCode.DEPOSIT),
        (SUSPENDED, Transfer, ("vault", VAULT), ("suspense", None), TransferCode.DEPOSIT_SUSPENDED),
        (MOVED, Transfer, ("wallet", WALLET), ("wallet", OTHER), TransferCode.WALLET_TRANSFER),
        (FEE, Transfer, ("network_fees", None), ("vault", VAULT), TransferCode.NETWORK_FEE),
        (RECEIPT, Transfer, ("bank", BANK), ("wallet", WALLET), TransferCode.RECEIPT),
        (UNKNOWN, Transfer, ("bank", BANK), ("suspense", None), TransferCode.RECEIPT),
        (WITHDRAWAL, Hold, ("wallet", WALLET), ("vault", VAULT), TransferCode.WITHDRAWAL),
        (PAYOUT, Hold, ("wallet", WALLET), ("bank", BANK), TransferCode.PAYOUT),
    ],
)
def test_money_moves_from_the_account_credited_to_the_account_debited(
    commands: tuple[Command, ...],
    kind: type[Transfer | Hold],
    debit: tuple[str, object],
    credit: tuple[str, object],
    code: TransferCode,
) -> None:
    *opened, moved = commands
    assert isinstance(moved, kind)
    assert (moved.debit.kind, moved.debit.owner) == debit
    assert (moved.credit.kind, moved.credit.owner) == credit
    assert (moved.code, moved.reference) == (code, OBJECT)
    assert opened == [OpenAccount(key=moved.debit), OpenAccount(key=moved.credit)]


@pytest.mark.parametrize(
    ("held", "settled", "released"),
    [
        (
            WITHDRAWAL,
            postings.withdrawal_settled(withdrawal_id=OBJECT),
            postings.withdrawal_released(withdrawal_id=OBJECT),
        ),
        (PAYOUT, postings.payout_settled(payout_id=OBJECT), postings.payout_released(payout_id=OBJECT)),
    ],
)
def test_a_hold_is_settled_or_released_by_its_own_id(
    held: tuple[Command, ...], settled: tuple[Command, ...], released: tuple[Command, ...]
) -> None:
    hold, post, void = held[-1], settled[0], released[0]
    assert isinstance(hold, Hold)
    assert isinstance(post, PostHold)
    assert isinstance(void, VoidHold)
    assert post.hold_id == void.hold_id == hold.id
    assert post.amount is None
    assert len({hold.id, post.id, void.id}) == 3


def test_a_returned_payout_moves_back_what_was_held() -> None:
    hold, back = PAYOUT[-1], RETURNED[-1]
    assert isinstance(hold, Hold)
    assert isinstance(back, Transfer)
    assert (back.debit, back.credit, back.amount, back.code) == (
        hold.credit,
        hold.debit,
        hold.amount,
        hold.code,
    )


def test_a_deposit_is_booked_one_way_or_the_other_and_reversed_either_way() -> None:
    credited, suspended = DEPOSIT[-1], SUSPENDED[-1]
    (mirror,) = postings.deposit_reversed(deposit_id=OBJECT)
    assert isinstance(credited, Transfer)
    assert isinstance(suspended, Transfer)
    assert isinstance(mirror, Reverse)
    assert credited.id == suspended.id == mirror.transfer_id


def test_the_same_event_gives_the_same_commands() -> None:
    assert (
        postings.deposit_credited(deposit_id=OBJECT, vault_id=VAULT, wallet_id=WALLET, amount=TEN) == DEPOSIT
    )


def test_steps_of_one_object_never_share_an_id() -> None:
    steps = (DEPOSIT, MOVED, FEE, RECEIPT, WITHDRAWAL, PAYOUT)
    endings = (
        postings.deposit_reversed(deposit_id=OBJECT),
        postings.withdrawal_settled(withdrawal_id=OBJECT),
        postings.withdrawal_released(withdrawal_id=OBJECT),
        postings.payout_settled(payout_id=OBJECT),
        postings.payout_released(payout_id=OBJECT),
        RETURNED,
    )
    ids = [c.id for step in steps + endings for c in step if not isinstance(c, OpenAccount)]
    assert len(ids) == len(set(ids))


def legs(commands: tuple[Command, ...]) -> list[tuple[tuple[str, object], tuple[str, object], Amount, str]]:
    """Who is debited, who is credited, with how much and why, in order."""
    return [
        ((c.debit.kind.value, c.debit.owner), (c.credit.kind.value, c.credit.owner), c.amount, c.code.value)
        for c in commands
        if isinstance(c, Transfer)
    ]


def test_a_fee_is_a_leg_of_its_own_and_leaves_the_amount_whole() -> None:
    charged = postings.wallet_transfer(
        transfer_id=OBJECT,
        source_wallet_id=WALLET,
        destination_wallet_id=OTHER,
        amount=TEN,
        fee=Amount(XLM, 3),
    )
    assert charged[: len(MOVED)] == MOVED
    assert legs(charged) == [
        (("wallet", WALLET), ("wallet", OTHER), TEN, "wallet_transfer"),
        (("wallet", WALLET), ("fee_income", None), Amount(XLM, 3), "fee"),
    ]
    assert charged[-1].id == postings.fee_id(OBJECT)
    assert all(c.reference == OBJECT for c in charged if isinstance(c, Transfer))


def test_a_fee_in_another_asset_than_its_payer_holds_cannot_be_made() -> None:
    with pytest.raises(AssetMismatch):
        postings.wallet_transfer(
            transfer_id=OBJECT,
            source_wallet_id=WALLET,
            destination_wallet_id=OTHER,
            amount=TEN,
            fee=EUROS,
        )


EXCHANGED = postings.exchanged(
    exchange_id=OBJECT,
    source_wallet_id=WALLET,
    destination_wallet_id=OTHER,
    sold=TEN,
    bought=EUROS,
    fee=Amount(XLM, 1),
)


def test_an_exchange_goes_through_clearing_on_both_sides() -> None:
    assert legs(EXCHANGED) == [
        (("wallet", WALLET), ("clearing", None), TEN, "exchange"),
        (("clearing", None), ("wallet", OTHER), EUROS, "exchange"),
        (("wallet", WALLET), ("fee_income", None), Amount(XLM, 1), "fee"),
    ]
    opened = {c.key for c in EXCHANGED if isinstance(c, OpenAccount)}
    named = {key for c in EXCHANGED if isinstance(c, Transfer) for key in (c.debit, c.credit)}
    assert opened == named


@pytest.mark.parametrize("with_fee", [True, False])
def test_an_exchange_is_reversed_leg_by_leg(*, with_fee: bool) -> None:
    mirrors = postings.exchange_reversed(exchange_id=OBJECT, with_fee=with_fee)
    booked = [c.id for c in EXCHANGED if isinstance(c, Transfer)]
    assert [c.transfer_id for c in mirrors if isinstance(c, Reverse)] == (booked if with_fee else booked[:2])
    ids = [*booked, *(c.id for c in mirrors if isinstance(c, Reverse))]
    assert len(set(ids)) == len(ids)


def test_a_command_across_assets_cannot_be_made() -> None:
    with pytest.raises(AssetMismatch):
        Transfer(
            id=OBJECT,
            debit=postings.wallet_account(WALLET, XLM),
            credit=postings.wallet_account(OTHER, XLM),
            amount=EUROS,
            code=TransferCode.WALLET_TRANSFER,
            reference=OBJECT,
        )


def test_an_account_has_one_id_per_tenant_and_key() -> None:
    keys = [
        postings.wallet_account(WALLET, XLM),
        postings.wallet_account(WALLET, EUR),
        postings.wallet_account(OTHER, XLM),
        postings.vault_account(WALLET, XLM),
        postings.suspense_account(XLM),
    ]
    ids = {key.id_for(TenantId(tenant)) for key in keys for tenant in (1, 2)}
    assert len(ids) == 10


def test_every_refusal_has_an_error_and_every_error_a_refusal() -> None:
    refusals = {code.value for code in ResultCode} - {"applied"}
    assert {error.code for error in REFUSALS} == refusals
    assert len(REFUSALS) == len(refusals)
    assert not any(error.retryable for error in REFUSALS)


def test_ended_holds_and_closed_accounts_stay_so() -> None:
    assert frozenset({"posted", "voided", "expired"}) == HOLDS.terminal
    assert frozenset({"closed"}) == ACCOUNTS.terminal
