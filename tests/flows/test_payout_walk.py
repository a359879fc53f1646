"""The walk of a payout: euros arrive, are held, are sent through a rail, are settled, and may come back."""

from __future__ import annotations

from datetime import timedelta

import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.payouts import service as payouts
from custody.payouts.model import RailEvent, RailObservation
from tests.fakes.fiat import NOW, Fiat, make_fiat
from tests.flows.told import actions_on, events_of

pytestmark = pytest.mark.usefixtures("told_as_promised")


@pytest.fixture
async def fiat(database: Database, tenant: TenantId) -> Fiat:
    return await make_fiat(database, tenant)


async def observe(fiat: Fiat, told: RailObservation) -> None:
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        await payouts.observe(uow, told, NOW)


async def test_a_payout_is_settled_and_then_returned(fiat: Fiat) -> None:
    # Somebody pays the customer by bank; the wallet that the text names is credited.
    await fiat.fund(10_000)
    assert await fiat.books() == {
        "wallet": 10_000,
        "available": 10_000,
        "bank": 10_000,
        "suspense": 0,
        "trial": 0,
    }

    # Asking holds the amount.
    asked = await fiat.request(2_500)
    assert asked.state == "ready"
    assert (await fiat.books())["available"] == 7_500

    # The rails worker claims it: our reference is committed before anything is sent.
    async with fiat.database.unit_of_work(fiat.tenant) as uow:
        claimed = await payouts.claim(uow, ("sandbox",), NOW, timedelta(seconds=30))
    assert claimed is not None
    assert (await fiat.get(asked.id)).state == "submitting"

    # The bank says settled; saying it twice changes nothing more.
    for _ in range(2):
        await observe(fiat, fiat.news(asked, RailEvent.SETTLED))
    assert (await fiat.get(asked.id)).state == "settled"
    assert await fiat.books() == {
        "wallet": 7_500,
        "available": 7_500,
        "bank": 7_500,
        "suspense": 0,
        "trial": 0,
    }

    # Days later the beneficiary's bank sends it back: a mirror posting, nothing edited.
    await observe(fiat, fiat.news(asked, RailEvent.RETURNED))
    assert (await fiat.get(asked.id)).state == "returned"
    assert await fiat.books() == {
        "wallet": 10_000,
        "available": 10_000,
        "bank": 10_000,
        "suspense": 0,
        "trial": 0,
    }
    assert await events_of(fiat.database, fiat.tenant, asked.id) == [
        "payout.ready",
        "payout.submitting",
        "payout.settled",
        "payout.returned",
    ]
    assert (await actions_on(fiat.database, fiat.tenant, asked.id))[0] == "payout.ready"
