"""A range of blocks is read whole, once, by one process, and joins what we know, whatever dies on the way."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from custody.deposits.service import NO_CAUTION
from devnet.stellar.server import Served
from ingestion.backfill import service, store
from ingestion.backfill.model import EVERY_VAULT
from ingestion.backfill.run import fill_chunk
from ingestion.errors import (
    BackfillOverlaps,
    BackfillTaken,
    BadRange,
    BrokenHashChain,
    FenceLost,
    MissingBlock,
)
from ingestion.lease import Lease
from tests.fakes.faults import Crash
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.backfill_harness import (
    ACCOUNT,
    FUNDED,
    Between,
    fund,
    history,
    load,
    order,
    pay,
    register,
    run,
    served,
    source,
)
from tests.integration.crash_harness import DyingDatabase, rows
from tests.integration.ingestion_harness import (
    OMNIBUS_REQUEST,
    Desk,
    build_loop,
    catch_up,
    take_fence,
)
from tests.integration.stellar_stage import CHAIN, XLM, desk

__all__ = ["desk", "served", "source"]

pytestmark = pytest.mark.stack


async def standing(desk: Desk, backfill_id: UUID) -> tuple[Any, ...]:
    """All that a backfill may change, without when."""
    after = await load(desk, backfill_id)
    return (after.next, after.stands_on, await rows(desk.db, desk.tenant))


async def test_dying_before_any_statement_of_a_backfill_and_resuming_leaves_the_same_rows(
    desk: Desk, source: Between, served: Served
) -> None:
    backfill = await history(desk, source, served)
    dying = DyingDatabase(desk.db)
    crashes, further, before = 0, 1, await standing(desk, backfill.id)
    try:
        while True:
            dying.left = further
            try:
                await run(desk, source, backfill.id)
            except Crash:
                crashes += 1
            else:
                break
            dying.left = 0
            now = await standing(desk, backfill.id)
            further, before = (further + 1 if now == before else 1), now
    finally:
        dying.close()
    assert crashes > 100
    assert (await load(desk, backfill.id)).is_done
    after = await rows(desk.db, desk.tenant)
    assert len(after["deposits"]) == len(after["ledger_transfers"]) == 5
    assert len([row for row in after["outbox"] if row[0].startswith("deposit.")]) == 10
    assert await desk.suspended(XLM) == FUNDED + 50
    # Read once more by hand, nothing changes.
    again = await order(desk, backfill.first, backfill.last, ACCOUNT)
    await run(desk, source, again.id)
    assert await rows(desk.db, desk.tenant) == after


async def test_a_worker_that_lost_its_fence_neither_books_nor_closes_a_range(
    desk: Desk, source: Between, served: Served
) -> None:
    await fund(served, ACCOUNT)
    slow = await take_fence(desk.db, CHAIN)
    await catch_up(build_loop(desk.db, source, slow))
    await pay(served, ACCOUNT, 11)
    await register(desk)
    await take_fence(desk.db, CHAIN)
    before = await rows(desk.db, desk.tenant)
    with pytest.raises(FenceLost):
        await build_loop(desk.db, source, slow).step()
    async with desk.db.read(None) as session:
        assert await store.count_unnoticed(session, CHAIN) == 1
    with pytest.raises(FenceLost):
        await build_loop(desk.db, source, slow).step()
    assert await rows(desk.db, desk.tenant) == before


async def test_a_missing_ledger_is_named_and_the_backfill_resumes_where_it_stood(
    desk: Desk, source: Between, served: Served
) -> None:
    backfill = await history(desk, source, served)
    gap = backfill.first + 4
    source.missing = frozenset({gap})
    with pytest.raises(MissingBlock) as raised:
        await run(desk, source, backfill.id)
    assert f"height={gap}" in str(raised.value)
    stopped = await load(desk, backfill.id)
    assert stopped.next == backfill.first + 3
    assert "ingestion_missing_block" in stopped.halted
    source.missing = frozenset()
    source.fetched = []
    after = await run(desk, source, backfill.id)
    assert after.is_done
    assert not after.halted
    assert source.fetched == list(range(stopped.next, backfill.last + 1))


async def test_a_ledger_that_is_not_the_one_we_know_stops_the_backfill(
    desk: Desk, source: Between, served: Served
) -> None:
    backfill = await history(desk, source, served)
    source.forged = frozenset({backfill.first + 5})
    with pytest.raises(BrokenHashChain):
        await run(desk, source, backfill.id)
    stopped = await load(desk, backfill.id)
    assert stopped.next == backfill.first + 3
    assert "ingestion_broken_hash_chain" in stopped.halted


async def test_of_two_processes_one_carries_a_backfill_out_and_a_lost_fence_writes_nothing(
    desk: Desk, source: Between, served: Served
) -> None:
    backfill = await history(desk, source, served)
    async with Lease(desk.db, CHAIN, backfill.id) as held:
        assert await held.take()
        with pytest.raises(BackfillTaken):
            await run(desk, source, backfill.id)
    async with desk.db.unit_of_work(None) as uow:
        slow = await store.take_over(uow, backfill.id, "slow/1")
    async with desk.db.unit_of_work(None) as uow:
        quick = await store.take_over(uow, backfill.id, "quick/2")
    before = await standing(desk, backfill.id)
    with pytest.raises(FenceLost):
        await fill_chunk(desk.db, source, slow, NO_CAUTION)
    assert await standing(desk, backfill.id) == before
    moved, tally = await fill_chunk(desk.db, source, quick, NO_CAUTION)
    assert moved.next == backfill.first + 3
    assert tally.deposits > 0


async def test_both_backfills_of_one_range_started_together_end_with_one_set_of_rows(
    desk: Desk, source: Between, served: Served
) -> None:
    backfill = await history(desk, source, served)
    ended = await asyncio.gather(
        run(desk, source, backfill.id), run(desk, source, backfill.id), return_exceptions=True
    )
    assert sorted(type(each).__name__ for each in ended) == ["Backfill", "BackfillTaken"]
    assert len((await rows(desk.db, desk.tenant))["deposits"]) == 5


async def test_ranges_below_the_live_run_are_read_by_several_processes_and_leave_no_hole(
    desk: Desk, source: Between, served: Served
) -> None:
    """The live loop starts late; what lies below is filled in later, in three ranges at the same time, and joins up."""
    await desk.open_omnibus()
    vault = FakeKeyMaker.account_of(OMNIBUS_REQUEST, CHAIN)
    await fund(served, vault)
    await pay(served, vault, 11, 12)
    await pay(served, vault, 13, 14)
    oldest, start = served.network.oldest.sequence, served.network.latest.sequence
    loop = build_loop(desk.db, source, await take_fence(desk.db, CHAIN), start_height=start)
    await catch_up(loop)
    source.batch_max = 2
    third = (start - oldest) // 3
    ranges = [
        (oldest, oldest + third - 1),
        (oldest + third, oldest + 2 * third - 1),
        (oldest + 2 * third, start - 1),
    ]
    ordered = [await order(desk, first, last) for first, last in ranges]
    async with desk.db.read(None) as session:
        assert await service.covered(session, CHAIN) == [(start, start)]
    await run(desk, source, ordered[0].id)
    async with desk.db.read(None) as session:
        assert await service.covered(session, CHAIN) == [ranges[0], (start, start)]
    await asyncio.gather(*(run(desk, source, each.id) for each in ordered[1:]))
    async with desk.db.read(None) as session:
        assert await service.covered(session, CHAIN) == [(oldest, start)]
        unlinked = await session.conn.execute(
            text(
                "SELECT count(*) FROM ingestion_blocks b WHERE b.height > :oldest AND NOT EXISTS (SELECT FROM ingestion_blocks a"
                " WHERE a.chain = b.chain AND a.height = b.height - 1 AND a.hash = b.parent_hash AND a.canonical)"
            ),
            {"oldest": oldest},
        )
        assert unlinked.scalar_one() == 0
    assert [each.state for each in await desk.deposits()] == ["suspended"] * 5
    assert await desk.suspended(XLM) == FUNDED + 50


async def test_orders_are_idempotent_bounded_and_do_not_overlap(
    desk: Desk, source: Between, served: Served
) -> None:
    backfill = await history(desk, source, served)
    made = await order(desk, 3, 6)
    assert (await order(desk, 3, 6)).id == made.id
    with pytest.raises(BackfillOverlaps):
        await order(desk, 5, 9)
    assert (await order(desk, 5, 9, ACCOUNT)).account == ACCOUNT
    with pytest.raises(BadRange):
        await order(desk, 3, backfill.last + 1)
    with pytest.raises(BadRange):
        await order(desk, 6, 5)
    done = await run(desk, source, made.id)
    assert (await order(desk, 3, 6)).id == done.id
    async with desk.db.unit_of_work(None) as uow:
        again = await service.order(uow, CHAIN, EVERY_VAULT, 3, 6, again=True)
    assert again.id != done.id
    assert again.next == 3
