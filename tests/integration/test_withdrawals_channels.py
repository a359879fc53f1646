"""Channels on a local Stellar network: opened by the system, used side by side, one transaction each, booked to the stroop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from tests.integration.channel_stage import (
    CHANNEL_FULL,
    DEPOSIT,
    FEES_FULL,
    Stage,
    make_network,
    open_channels,
    open_stage,
)


@pytest.fixture
def served() -> Iterator[Served]:
    with serve_in_thread(make_network()) as running:
        yield running


@pytest.fixture
def outsider(served: Served) -> Iterator[Outsider]:
    with Outsider(served.url, drive=True) as client:
        yield client


@pytest.fixture
async def stage(
    database: Database, tenant: TenantId, served: Served, outsider: Outsider, tmp_path: Path
) -> AsyncIterator[Stage]:
    yield await open_stage(database, tenant, served, outsider, tmp_path)


async def test_channels_are_opened_and_pay_side_by_side(stage: Stage) -> None:
    channels = await open_channels(stage)
    (payer,) = await stage.vaults("fees")
    assert [await stage.booked(each.id) for each in channels] == [CHANNEL_FULL] * 3
    assert await stage.booked(payer.id) == FEES_FULL
    await stage.demand_books_equal_chain()

    before = stage.paid_to(stage.stranger)
    made = [await stage.request() for _ in range(6)]
    assert {each.channel_id for each in made} == {each.id for each in channels}
    for _ in range(2):
        await stage.work()
        await stage.close()
    assert [await stage.state(each) for each in made] == ["settled"] * 6
    assert stage.paid_to(stage.stranger) == before + 6000
    assert await stage.owed() == DEPOSIT - 6000
    # Each channel paid for its own two; the omnibus vault paid no fee.
    assert [await stage.booked(each.id) for each in channels] == [CHANNEL_FULL - 200] * 3
    await stage.demand_books_equal_chain()
