"""History filled in later: nothing between live and backfill, nothing twice, nobody else touched, no block missed in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from custody.chains.ports import Head
from custody.db.session import Database
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.ids import TenantId, VaultId, derived_uuid
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from ingestion import cursor
from ingestion.backfill import service, store
from ingestion.backfill.model import EVERY_VAULT, Backfill
from ingestion.backfill.run import fill, fill_chunk
from ingestion.effects import Tally
from ingestion.errors import (
    BackfillOverlaps,
    BackfillTaken,
    BadRange,
    BrokenHashChain,
    FenceLost,
    MissingBlock,
)
from ingestion.lease import Lease
from ingestion.model import BlockFacts
from ingestion.stellar.sources import RpcLedgers
from tests.fakes.faults import Crash
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.ingestion_harness import (
    OMNIBUS_REQUEST,
    Desk,
    build_loop,
    catch_up,
    open_ledgers,
    take_fence,
)
from tests.integration.test_ingestion_crash import DyingDatabase, rows

CHAIN = ChainId("stellar:devnet")
XLM = parse_asset_id("stellar:devnet/native")
IMPORTED_REQUEST = derived_uuid("imported")
FUNDED = 10_000 * 10**7
"""What friendbot gives."""

pytestmark = pytest.mark.stack


class Between:
    """The network's ledgers in batches of a chosen size; something may happen after a fetch, ledgers may be missing or forged."""

    def __init__(self, honest: RpcLedgers, *, batch_max: int = 10) -> None:
        self._honest = honest
        self.batch_max = batch_max
        self.after_fetch: Callable[[], Awaitable[None]] | None = None
        self.missing: frozenset[int] = frozenset()
        self.forged: frozenset[int] = frozenset()
        self.fetched: list[int] = []

    @property
    def chain(self) -> ChainId:
        return self._honest.chain

    @property
    def reorganises(self) -> bool:
        return False

    async def verify_network(self) -> None:
        await self._honest.verify_network()

    async def head(self) -> Head:
        return await self._honest.head()

    async def oldest(self) -> int:
        return await self._honest.oldest()

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        facts = await self._honest.fetch(first, last)
        happens, self.after_fetch = self.after_fetch, None
        if happens is not None:
            await happens()
        self.fetched += [each.ref.height for each in facts]
        return [
            replace(each, ref=replace(each.ref, hash="ff" * 32)) if each.ref.height in self.forged else each
            for each in facts
            if each.ref.height not in self.missing
        ]

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        return await self._honest.hashes(heights)

    async def aclose(self) -> None:
        await self._honest.aclose()


@pytest.fixture
def served() -> Iterator[Served]:
    """A network that closes a ledger when it is told to, each later than the one before, as pubnet does."""
    with serve_in_thread(LocalNetwork(strict_close_time=True)) as running:
        yield running


@pytest.fixture
async def source(served: Served, database: Database) -> AsyncIterator[Between]:
    """The network's ledgers."""
    opened = Between(open_ledgers(CHAIN, served.url, served.network.passphrase, database))
    yield opened
    await opened.aclose()


@pytest.fixture
async def desk(database: Database, tenant: TenantId) -> Desk:
    """A tenant that lists XLM."""
    made = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await made.list_asset(XLM, "XLM", 7)
    return made


ACCOUNT = FakeKeyMaker.account_of(IMPORTED_REQUEST, CHAIN)
"""An account with a history, which becomes a vault later."""


async def register(desk: Desk, *, unused_before: datetime | None = None) -> Vault:
    """The account becomes a vault of the tenant's."""
    vault = Vault(
        id=VaultId(derived_uuid("vault", "imported")),
        chain=CHAIN,
        purpose="omnibus",
        wallet_id=None,
        key_id=IMPORTED_REQUEST.hex,
        account=ACCOUNT,
    )
    async with desk.db.unit_of_work(desk.tenant) as uow:
        return await wallets.add_vault(uow, "test", vault, unused_before=unused_before)


async def pay(served: Served, address: str, *amounts: int) -> None:
    """Each payment closes a ledger; two empty ledgers follow."""

    def send() -> None:
        with Outsider(served.url, drive=True) as outsider:
            payer = outsider.new_account()
            for amount in amounts:
                outsider.pay(payer, address, amount)
        served.network.close()
        served.network.close()

    await asyncio.to_thread(send)


async def fund(served: Served, address: str) -> None:
    """The account comes to be."""

    def send() -> None:
        with Outsider(served.url, drive=True) as outsider:
            outsider.fund(address)

    await asyncio.to_thread(send)


async def follow(desk: Desk, source: Between) -> None:
    """The live loop reaches the tip."""
    await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))


def ignore(_backfill: Backfill, _tally: Tally) -> None:
    """Nobody is told."""


async def fill_open(desk: Desk, source: Between) -> list[Backfill]:
    """Everything that is open is read to its end."""
    async with desk.db.read(None) as session:
        found = await store.find_open(session, CHAIN)
    return [await fill(desk.db, source, each.id, stop=asyncio.Event(), told=ignore) for each in found]


async def order(desk: Desk, first: int, last: int, account: str = EVERY_VAULT) -> Backfill:
    async with desk.db.unit_of_work(None) as uow:
        return await service.order(uow, CHAIN, account, first, last)


async def run(desk: Desk, source: Between, backfill_id: UUID) -> Backfill:
    return await fill(desk.db, source, backfill_id, stop=asyncio.Event(), told=ignore, tries_max=2)


async def load(desk: Desk, backfill_id: UUID) -> Backfill:
    async with desk.db.read(None) as session:
        return await store.load(session, backfill_id)


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


async def history(desk: Desk, source: Between, served: Served) -> Backfill:
    """An account with a history of five payments in more than ten ledgers, registered after it, its backfill open."""
    await fund(served, ACCOUNT)
    await pay(served, ACCOUNT, 11, 12)
    await pay(served, ACCOUNT, 13, 14)
    await follow(desk, source)
    await register(desk)
    await follow(desk, source)
    source.batch_max = 3
    async with desk.db.read(None) as session:
        (found,) = await store.find_open(session, CHAIN)
    return found


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
        await fill_chunk(desk.db, source, slow)
    assert await standing(desk, backfill.id) == before
    moved, tally = await fill_chunk(desk.db, source, quick)
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
