"""Payouts when two workers hold sendings of one payout: words about an old sending, heard while a newer one is out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.payouts import service as payouts
from custody.payouts.model import (
    Accepted,
    Declined,
    ObservationResult,
    Payout,
    PayoutAttempt,
    RailEvent,
    SubmissionReport,
)
from tests.fakes.fiat import NOW, Fiat, make_fiat

LEASE = timedelta(seconds=20)
LATER = NOW + timedelta(seconds=21)


@pytest.fixture
async def fiat(database: Database, tenant: TenantId) -> Fiat:
    made = await make_fiat(database, tenant)
    await made.fund(10_000)
    return made


async def send_late(fiat: Fiat) -> tuple[Payout, PayoutAttempt]:
    """A sending whose worker sleeps past its lease."""
    payout = await fiat.request(4_000)
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        attempt = await payouts.claim(uow, ("sandbox",), NOW, LEASE)
    assert attempt is not None
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        assert await payouts.lose_expired(uow, LATER) == 1
    return payout, attempt


async def record(fiat: Fiat, attempt: PayoutAttempt, report: SubmissionReport) -> str:
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        return (await payouts.record_submission(uow, attempt, report, LATER)).state


async def test_a_refusal_of_an_older_sending_releases_nothing_while_a_newer_one_is_out(fiat: Fiat) -> None:
    payout, first = await send_late(fiat)
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        second = await payouts.claim_resend(uow, payout.id, LATER, LEASE)
    assert second is not None
    assert await record(fiat, first, Declined(code="limit")) == "submitting"
    assert (await fiat.books())["available"] == 6_000
    assert await record(fiat, second, Accepted(external_ref=f"pmt_{payout.id.hex}")) == "submitted"
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        news = fiat.news(payout, RailEvent.SETTLED)
        assert await payouts.observe(uow, news, LATER) is ObservationResult.APPLIED
    assert await fiat.books() == {
        "wallet": 6_000, "available": 6_000, "bank": 6_000, "suspense": 0, "trial": 0
    }  # fmt: skip


async def test_a_refusal_heard_after_the_lease_counts_while_nothing_newer_is_out(fiat: Fiat) -> None:
    payout, first = await send_late(fiat)
    assert await record(fiat, first, Declined(code="limit")) == "rejected"
    assert (await fiat.books())["available"] == 10_000
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        assert await payouts.claim_resend(uow, payout.id, LATER, LEASE) is None
