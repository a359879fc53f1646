"""History of accounts that are registered later: nothing between live and backfill, nothing twice, nobody else touched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from custody.deposits.service import NO_CAUTION
from custody.kernel.ids import TenantId
from custody.wallets.model import Vault
from devnet.stellar.server import Served
from ingestion import cursor
from ingestion.backfill import queue, service, store
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.backfill_harness import (
    ACCOUNT,
    FUNDED,
    Between,
    fill_open,
    follow,
    fund,
    history,
    load,
    pay,
    register,
    served,
    source,
)
from tests.integration.crash_harness import rows
from tests.integration.ingestion_harness import (
    OMNIBUS_REQUEST,
    Desk,
    build_loop,
    catch_up,
    open_ledgers,
    take_fence,
)
from tests.integration.stellar_stage import CHAIN, XLM, desk

__all__ = ["desk", "served", "source"]

pytestmark = pytest.mark.stack


async def test_an_account_registered_later_gets_its_history_at_once_and_nobody_elses_rows_change(
    desk: Desk, source: Between, served: Served, other_tenant: TenantId
) -> None:
    theirs = Desk(db=desk.db, tenant=other_tenant, chain=CHAIN, keys=FakeKeyMaker())
    vault = await theirs.open_omnibus()
    ada = await theirs.open_wallet("ada")
    address = await theirs.issue_address(ada)
    await follow(desk, source)
    await fund(served, vault.account)
    await fund(served, ACCOUNT)
    await pay(served, ACCOUNT, 11, 12)
    await pay(served, address.address, 500)
    await follow(desk, source)
    before = await rows(desk.db, other_tenant)
    imported = await register(desk)
    await follow(desk, source)
    assert await desk.deposits() == []
    await fill_open(desk, source)
    found = await desk.deposits()
    assert [(each.transfer.amount, each.state) for each in found] == [
        (FUNDED, "suspended"),
        (11, "suspended"),
        (12, "suspended"),
    ]
    assert await desk.held(imported, XLM) == FUNDED + 23 == served.network.balance(ACCOUNT)
    after = await rows(desk.db, other_tenant)
    assert after == before
    assert len(after["deposits"]) == 2
    async with desk.db.read(None) as session:
        assert await store.find_open(session, CHAIN) == []


async def test_no_block_falls_between_live_and_backfill_when_an_account_is_registered_after_the_question(
    desk: Desk, source: Between, served: Served
) -> None:
    """The batch is fetched, and whose accounts are ours was asked; now the account is registered; then the batch is booked."""
    await fund(served, ACCOUNT)
    await follow(desk, source)
    await pay(served, ACCOUNT, 11, 12)
    imported: list[Vault] = []

    async def registers() -> None:
        imported.append(await register(desk))

    source.after_fetch = registers
    loop = build_loop(desk.db, source, await take_fence(desk.db, CHAIN))
    await loop.step()
    async with desk.db.read(None) as session:
        assert await store.count_unnoticed(session, CHAIN) == 1
        assert await store.find_open(session, CHAIN) == []
    assert await desk.deposits() == [], "the fetched facts did not know the account"
    await pay(served, ACCOUNT, 13)
    await catch_up(loop)
    assert [each.transfer.amount for each in await desk.deposits()] == [13]
    (done,) = await fill_open(desk, source)
    assert done.is_done
    assert sorted(each.transfer.amount for each in await desk.deposits()) == [11, 12, 13, FUNDED]
    assert await desk.held(imported[0], XLM) == served.network.balance(ACCOUNT)


@pytest.mark.parametrize("batches_before", [0, 1, 2])
async def test_registered_before_any_batch_of_a_catching_up_worker_everything_is_booked_once(
    desk: Desk, source: Between, served: Served, batches_before: int
) -> None:
    await fund(served, ACCOUNT)
    await pay(served, ACCOUNT, 11, 12)
    await pay(served, ACCOUNT, 13)
    source.batch_max = 3
    loop = build_loop(desk.db, source, await take_fence(desk.db, CHAIN))
    for _ in range(batches_before):
        assert await loop.step()

    async def registers() -> None:
        await register(desk)

    source.after_fetch = registers
    await catch_up(loop)
    await loop.step()
    await fill_open(desk, source)
    assert sorted(each.transfer.amount for each in await desk.deposits()) == [11, 12, 13, FUNDED]
    assert await desk.suspended(XLM) == FUNDED + 36 == served.network.balance(ACCOUNT)


async def test_a_new_key_asks_only_for_the_blocks_since_it_was_asked_for(
    desk: Desk, source: Between, served: Served
) -> None:
    for _ in range(5):
        served.network.close()
    await follow(desk, source)
    tip = served.network.latest.sequence
    async with desk.db.read(None) as session:
        asked_for = (await cursor.recorded(session, CHAIN, tip - 2, tip - 2))[tip - 2].closed_at
    await register(desk, unused_before=asked_for)
    await follow(desk, source)
    async with desk.db.read(None) as session:
        (found,) = await store.find_open(session, CHAIN)
    assert (found.first, found.last) == (tip - 2, tip)


async def test_a_key_that_is_younger_than_the_newest_block_asks_for_nothing(
    desk: Desk, source: Between, served: Served
) -> None:
    served.network.close()
    await follow(desk, source)
    await register(desk, unused_before=datetime(2100, 1, 1, tzinfo=UTC))
    await follow(desk, source)
    async with desk.db.read(None) as session:
        assert await store.count_unnoticed(session, CHAIN) == 0
        assert await store.find_open(session, CHAIN) == []
        assert await service.covered(session, CHAIN) == [
            (served.network.oldest.sequence, served.network.latest.sequence)
        ]


async def test_the_queue_goes_on_past_a_halted_backfill_and_takes_it_up_again_at_the_next_start(
    desk: Desk, source: Between, served: Served, other_tenant: TenantId
) -> None:
    halted = await history(desk, source, served)
    theirs = Desk(db=desk.db, tenant=other_tenant, chain=CHAIN, keys=FakeKeyMaker())
    account = (await register(theirs, request=OMNIBUS_REQUEST)).account
    await follow(desk, source)
    missing = frozenset({halted.first + 4})

    def open_source() -> Between:
        ledgers = open_ledgers(CHAIN, served.url, served.network.passphrase, desk.db)
        opened = Between(ledgers, batch_max=3)
        opened.missing = missing
        return opened

    async def turn(until: Callable[[], Awaitable[bool]]) -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(queue.drain(desk.db, CHAIN, open_source, NO_CAUTION, stop))
        async with asyncio.timeout(30):
            # The database has to be asked.
            while not await until():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        stop.set()
        await running

    async def is_left_over() -> bool:
        async with desk.db.read(None) as session:
            left = await store.find_open(session, CHAIN)
        return [each.account for each in left if each.halted] == [ACCOUNT, account]

    async def is_done() -> bool:
        async with desk.db.read(None) as session:
            return not await store.find_open(session, CHAIN)

    await turn(is_left_over)
    assert (await load(desk, halted.id)).next == halted.first + 3
    missing = frozenset()
    await turn(is_done)
    assert sorted(each.transfer.amount for each in await desk.deposits()) == [11, 12, 13, 14, FUNDED]
