"""Payouts against the real database: holds, news in any order, idempotency, isolation."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from custody.banking import service as banking
from custody.banking.errors import BankAccountExistsDifferent, InvalidIban, NotABankAsset, UnknownBankAccount
from custody.db.session import Database
from custody.events import outbox
from custody.kernel.assetid import parse_asset_id
from custody.kernel.errors import IllegalTransition
from custody.kernel.ids import BankAccountId, PayoutId, TenantId, WalletId, new_uuid
from custody.kernel.money import Amount, AmountNotPositive
from custody.ledger.errors import InsufficientFunds
from custody.payouts import service as payouts
from custody.payouts.errors import (
    BadPaymentText,
    BeneficiaryIsOurselves,
    PayoutExistsDifferent,
    UnknownPayout,
    UnknownReference,
    WrongCurrency,
)
from custody.payouts.model import (
    Accepted,
    Declined,
    Lost,
    Mismatched,
    ObservationResult,
    PayoutAttempt,
    RailEvent,
    RailObservation,
    RequestPayout,
    SubmissionReport,
)
from custody.wallets.errors import UnknownWallet
from devnet.bank.ibans import sandbox_iban
from tests.fakes.fiat import EUR, NOW, Fiat, make_fiat

pytestmark = pytest.mark.usefixtures("told_as_promised")

LEASE = timedelta(seconds=20)


@pytest.fixture
async def fiat(database: Database, tenant: TenantId) -> Fiat:
    made = await make_fiat(database, tenant)
    await made.fund(10_000)
    return made


async def claim(fiat: Fiat) -> PayoutAttempt | None:
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        return await payouts.claim(uow, ("sandbox",), NOW, LEASE)


async def record(fiat: Fiat, attempt: PayoutAttempt, report: SubmissionReport) -> str:
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        return (await payouts.record_submission(uow, attempt, report, NOW)).state


async def observe(fiat: Fiat, news: RailObservation) -> ObservationResult:
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        return await payouts.observe(uow, news, NOW)


async def test_a_request_holds_the_money_and_says_so(fiat: Fiat) -> None:
    payout = await fiat.request(4_000)
    assert (payout.state, payout.reference) == ("ready", None)
    assert await fiat.books() == {
        "wallet": 10_000,
        "available": 6_000,
        "bank": 10_000,
        "suspense": 0,
        "trial": 0,
    }
    async with fiat.database.read(fiat.tenant) as session:
        assert await outbox.count_of(session, payout.id) == 1


async def test_the_same_request_again_answers_the_same_payout(fiat: Fiat) -> None:
    order = fiat.order(4_000)

    async def ask() -> str:
        async with fiat.database.unit_of_work(fiat.tenant) as uow:
            return str((await payouts.request(uow, fiat.principal, order)).id)

    assert set(await asyncio.gather(*(ask() for _ in range(8)))) == {str(order.id)}
    assert (await fiat.books())["available"] == 6_000


@pytest.mark.parametrize(
    "change",
    [
        {"amount": Amount(EUR, 4_001)},
        {"beneficiary_iban": sandbox_iban(1001)},
        {"beneficiary_name": "Ada Lovelace"},
        {"remittance": ""},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_an_id_with_other_content_is_refused(fiat: Fiat, change: dict[str, object]) -> None:
    order = fiat.order(4_000)
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        await payouts.request(uow, fiat.principal, order)
    with pytest.raises(PayoutExistsDifferent):
        async with fiat.database.unit_of_work(fiat.tenant) as uow:
            await payouts.request(uow, fiat.principal, replace(order, **change))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"beneficiary_iban": "DE00500999000000001000"}, InvalidIban),
        ({"beneficiary_iban": "nonsense"}, InvalidIban),
        ({"beneficiary_iban": ""}, InvalidIban),
        ({"beneficiary_iban": sandbox_iban(1)}, BeneficiaryIsOurselves),
        ({"beneficiary_name": ""}, BadPaymentText),
        ({"beneficiary_name": "x" * 71}, BadPaymentText),
        ({"beneficiary_name": "Zoë"}, BadPaymentText),
        ({"beneficiary_name": "a\nb"}, BadPaymentText),
        ({"remittance": "x" * 141}, BadPaymentText),
        ({"amount": Amount(EUR, 0)}, AmountNotPositive),
        ({"amount": Amount(EUR, -1)}, AmountNotPositive),
        ({"amount": Amount(EUR, 10_001)}, InsufficientFunds),
        ({"amount": Amount(parse_asset_id("fiat/USD"), 1)}, WrongCurrency),
        ({"wallet_id": WalletId(new_uuid())}, UnknownWallet),
        ({"bank_account_id": BankAccountId(new_uuid())}, UnknownBankAccount),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
async def test_a_bad_request_is_refused_and_changes_nothing(
    fiat: Fiat, change: dict[str, object], error: type[Exception]
) -> None:
    order: RequestPayout = replace(fiat.order(100), **change)
    with pytest.raises(error):
        async with fiat.database.unit_of_work(fiat.tenant) as uow:
            await payouts.request(uow, fiat.principal, order)
    assert (await fiat.books())["available"] == 10_000
    async with fiat.database.read(fiat.tenant) as session:
        assert await payouts.list_payouts(session) == []
        assert await outbox.count_of(session, order.id) == 0


async def test_all_the_money_can_be_paid_out_and_no_more(fiat: Fiat) -> None:
    await fiat.request(10_000)
    with pytest.raises(InsufficientFunds):
        await fiat.request(1)


async def test_a_cancelled_payout_releases_its_hold_and_cannot_be_claimed(fiat: Fiat) -> None:
    payout = await fiat.request(4_000)
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        assert (await payouts.cancel(uow, fiat.principal, payout.id)).state == "cancelled"
    assert (await fiat.books())["available"] == 10_000
    assert await claim(fiat) is None


async def test_a_claimed_payout_cannot_be_cancelled(fiat: Fiat) -> None:
    payout = await fiat.request(4_000)
    assert await claim(fiat) is not None
    with pytest.raises(IllegalTransition):
        async with fiat.database.unit_of_work(fiat.tenant) as uow:
            await payouts.cancel(uow, fiat.principal, payout.id)
    assert (await fiat.books())["available"] == 6_000


async def test_many_workers_claim_each_payout_once(fiat: Fiat) -> None:
    requested = [(await fiat.request(100)).id for _ in range(6)]
    claimed = [attempt for attempt in await asyncio.gather(*(claim(fiat) for _ in range(10))) if attempt]
    assert sorted(attempt.payout_id for attempt in claimed) == sorted(requested)
    assert len({attempt.instruction.reference for attempt in claimed}) == 6


@pytest.mark.parametrize(
    ("report", "state", "available"),
    [
        (Accepted(external_ref="pmt_1"), "submitted", 6_000),
        (Declined(code="AC01"), "rejected", 10_000),
        (Lost(cause="ReadTimeout"), "unknown", 6_000),
        (Mismatched(field="amount", external_ref="pmt_1"), "integrity_failed", 6_000),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str | int) else str(value),
)
async def test_each_way_a_sending_ends(
    fiat: Fiat, report: SubmissionReport, state: str, available: int
) -> None:
    await fiat.request(4_000)
    attempt = await claim(fiat)
    assert attempt is not None
    assert await record(fiat, attempt, report) == state
    books = await fiat.books()
    assert (books["available"], books["wallet"], books["trial"]) == (available, 10_000, 0)


# Every order in which the news of a settled and of a returned payment can arrive, with every piece told twice.
SETTLED = [RailEvent.ACCEPTED, RailEvent.SETTLED]
RETURNED = [RailEvent.ACCEPTED, RailEvent.SETTLED, RailEvent.RETURNED]


@pytest.mark.parametrize("told", list(itertools.permutations(RETURNED)), ids="-".join)
@pytest.mark.parametrize("answered", ["before", "after", "lost"])
async def test_a_return_ends_the_same_in_every_order_of_news(
    fiat: Fiat, told: tuple[RailEvent, ...], answered: str
) -> None:
    payout = await fiat.request(4_000)
    attempt = await claim(fiat)
    assert attempt is not None
    accepted = Accepted(external_ref=f"pmt_{payout.id.hex}")
    if answered != "after":
        await record(fiat, attempt, accepted if answered == "before" else Lost(cause="ReadTimeout"))
    for event in (*told, *told):
        await observe(fiat, fiat.news(payout, event))
    if answered == "after":
        await record(fiat, attempt, accepted)
    assert (await fiat.get(payout.id)).state == "returned"
    assert await fiat.books() == {
        "wallet": 10_000, "available": 10_000, "bank": 10_000, "suspense": 0, "trial": 0
    }  # fmt: skip
    async with fiat.database.read(fiat.tenant) as session:
        lines = await payouts.booked_movements(session, fiat.account.id)
    assert [(line.kind, line.amount) for line in lines] == [("payment", -4_000), ("return", 4_000)]


@pytest.mark.parametrize("told", list(itertools.permutations(SETTLED)), ids="-".join)
async def test_a_settlement_posts_the_hold_once(fiat: Fiat, told: tuple[RailEvent, ...]) -> None:
    payout = await fiat.request(4_000)
    await claim(fiat)
    results = [await observe(fiat, fiat.news(payout, event)) for event in (*told, *told)]
    assert results[2:] == [ObservationResult.DUPLICATE, ObservationResult.DUPLICATE]
    assert (await fiat.books()) == {
        "wallet": 6_000, "available": 6_000, "bank": 6_000, "suspense": 0, "trial": 0
    }  # fmt: skip


async def test_the_same_news_at_the_same_moment_is_applied_once(fiat: Fiat) -> None:
    payout = await fiat.request(4_000)
    await claim(fiat)
    news = fiat.news(payout, RailEvent.SETTLED)
    results = await asyncio.gather(*(observe(fiat, news) for _ in range(6)))
    assert sorted(results) == sorted([ObservationResult.APPLIED] + [ObservationResult.DUPLICATE] * 5)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (RailEvent.REJECTED, RailEvent.SETTLED),
        (RailEvent.REJECTED, RailEvent.RETURNED),
        (RailEvent.SETTLED, RailEvent.REJECTED),
        (RailEvent.RETURNED, RailEvent.REJECTED),
    ],
)
async def test_contradicting_news_changes_no_books_and_is_told(
    fiat: Fiat, first: RailEvent, then: RailEvent
) -> None:
    payout = await fiat.request(4_000)
    await claim(fiat)
    await observe(fiat, fiat.news(payout, first))
    before = (await fiat.books(), (await fiat.get(payout.id)).state)
    assert await observe(fiat, fiat.news(payout, then)) is ObservationResult.CONTRADICTS
    assert (await fiat.books(), (await fiat.get(payout.id)).state) == before
    async with fiat.database.read(fiat.tenant) as session:
        rows = await session.conn.execute(
            text("SELECT count(*) FROM outbox WHERE type = 'payout.contradicted'")
        )
    assert rows.scalar_one() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", Amount(EUR, 3_999)),
        ("amount", Amount(parse_asset_id("fiat/USD"), 4_000)),
        ("beneficiary_iban", sandbox_iban(1001)),
        ("account_iban", sandbox_iban(2)),
    ],
)
@pytest.mark.parametrize("settled_before", [False, True])
async def test_an_echo_that_differs_stops_the_payout(
    fiat: Fiat, field: str, value: object, settled_before: bool
) -> None:
    payout = await fiat.request(4_000)
    await claim(fiat)
    if settled_before:
        await observe(fiat, fiat.news(payout, RailEvent.SETTLED))
    event = RailEvent.RETURNED if settled_before else RailEvent.SETTLED
    before = await fiat.books()
    await observe(fiat, fiat.news(payout, event, **{field: value}))
    found = await fiat.get(payout.id)
    assert (found.state, found.reason) == ("integrity_failed", field)
    assert await fiat.books() == before


async def test_news_under_a_reference_never_sent_is_refused(fiat: Fiat) -> None:
    payout = await fiat.request(4_000)
    with pytest.raises(UnknownReference):
        await observe(fiat, fiat.news(payout, RailEvent.SETTLED))


async def test_a_dead_workers_payout_becomes_unknown_and_is_asked_about(fiat: Fiat) -> None:
    payout = await fiat.request(4_000)
    await claim(fiat)
    for seconds, lost in ((19, 0), (21, 1), (22, 0)):
        async with fiat.database.unit_of_work(fiat.tenant) as uow:
            assert await payouts.lose_expired(uow, NOW + timedelta(seconds=seconds)) == lost
    async with fiat.database.read(fiat.tenant) as session:
        due = await payouts.due_for_poll(session, ("sandbox",), NOW + timedelta(seconds=30))
        assert [target.payout_id for target in due] == [payout.id]
        assert await payouts.due_for_poll(session, ("other",), NOW + timedelta(seconds=30)) == []


async def test_a_resend_keeps_the_reference_and_only_unknown_payouts_are_resent(fiat: Fiat) -> None:
    payout = await fiat.request(4_000)
    first = await claim(fiat)
    assert first is not None
    await record(fiat, first, Lost(cause="ConnectError"))
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        again = await payouts.claim_resend(uow, payout.id, NOW, LEASE)
    assert again is not None
    assert (again.number, again.instruction) == (2, first.instruction)
    await record(fiat, again, Accepted(external_ref="pmt_1"))
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        assert await payouts.claim_resend(uow, payout.id, NOW, LEASE) is None


async def test_another_tenant_sees_no_payout(fiat: Fiat, database: Database, other_tenant: TenantId) -> None:
    payout = await fiat.request(4_000)
    async with database.read(other_tenant) as session:
        assert await payouts.list_payouts(session) == []
        with pytest.raises(UnknownPayout):
            await payouts.get(session, payout.id)
        with pytest.raises(UnknownBankAccount):
            await banking.get_bank_account(session, fiat.account.id)
        assert (await banking.find_bank_account(session, "sandbox", fiat.account.iban)).tenant == fiat.tenant
    with pytest.raises(UnknownPayout):
        async with database.unit_of_work(other_tenant) as uow:
            await payouts.cancel(uow, fiat.principal, PayoutId(payout.id))


async def test_pages_go_backwards_without_gaps(fiat: Fiat) -> None:
    requested = [(await fiat.request(10)).id for _ in range(5)]
    async with fiat.database.read(fiat.tenant) as session:
        first = await payouts.list_payouts(session, limit=2)
        rest = await payouts.list_payouts(session, after=first[-1].id, limit=10)
    assert [payout.id for payout in (*first, *rest)] == requested[::-1]


async def test_an_iban_of_a_rail_belongs_to_one_tenant(
    fiat: Fiat, database: Database, other_tenant: TenantId
) -> None:
    spaced = " ".join(fiat.account.iban[n : n + 4] for n in range(0, 22, 4))
    async with database.unit_of_work(fiat.tenant) as uow:
        same = await banking.add_bank_account(
            uow, fiat.principal, rail="sandbox", iban=spaced, asset=EUR, name="Main"
        )
        assert same == fiat.account
        chain_asset = parse_asset_id("eip155:1/native")
        with pytest.raises(NotABankAsset):
            await banking.add_bank_account(
                uow, fiat.principal, rail="sandbox", iban=spaced, asset=chain_asset, name="x"
            )
    with pytest.raises(BankAccountExistsDifferent):
        async with database.unit_of_work(other_tenant) as uow:
            await banking.add_bank_account(
                uow, fiat.principal, rail="sandbox", iban=fiat.account.iban, asset=EUR, name="Main"
            )


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE payouts SET state = 'paid'",
        "UPDATE payouts SET state = 'settled'",
        "UPDATE payouts SET state = 'submitted', reference = 'x'",
        "UPDATE payouts SET reference = 'x'",
        "UPDATE payouts SET amount = 1",
        "DELETE FROM payouts",
        "DELETE FROM payout_attempts",
        "UPDATE rail_observations SET result = 'old'",
        "UPDATE bank_accounts SET iban = 'DE00'",
    ],
)
async def test_the_database_refuses_what_code_forgot(fiat: Fiat, sql: str) -> None:
    await fiat.request(4_000)
    with pytest.raises(DBAPIError):
        async with fiat.database.unit_of_work(fiat.tenant) as uow:
            await uow.conn.execute(text(sql))
