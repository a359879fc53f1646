"""History from the lake, then the tip from the RPC: neither a switch nor a kill may leave a ledger out or book one twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId
from custody.settings import LakeSettings
from devnet.stellar.lake import LakeWriter, export
from devnet.stellar.lake import main as write_lake
from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from ingestion import cursor, failover
from ingestion.errors import HistoryLost, LakeGap, ProvidersDisagree
from ingestion.stellar import history
from ingestion.stellar.lake import LakeLedgers
from ingestion.stellar.lake_layout import Layout
from ingestion.stellar.movements import EventReader
from ingestion.stellar.read import LedgerReader
from ingestion.stellar.sources import RpcLedgers, Window
from ingestion.watch import build_watch
from tests.fakes.faults import Crash
from tests.fakes.key_maker import FakeKeyMaker
from tests.fakes.ledger_network import close_ledgers, open_metrics, open_reader, shown
from tests.fakes.ledger_provider import metas_of
from tests.integration.crash_harness import DyingDatabase, rows, stands_at
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, take_fence
from tests.postgres import Cluster

CHAIN = ChainId("stellar:devnet")
XLM = parse_asset_id("stellar:devnet/native")
KEPT = 6
"""Ledgers that the RPC keeps: the rest lies in the lake."""
LAYOUT = Layout(ledgers_per_batch=4, batches_per_partition=2)

pytestmark = pytest.mark.stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A network, where its lake lies, and what was noted on the way."""

    served: Served
    folder: Path

    @property
    def network(self) -> LocalNetwork:
        return self.served.network

    def open(
        self, reader: LedgerReader, *, lake: bool = True, behind: int = 10_000, agreement: bool = False
    ) -> history.HistoryThenTip:
        rpc = RpcLedgers(JsonRpc(self.served.url), reader)
        metrics = open_metrics()
        terms = failover.Terms(timeout_s=20, lag_max=5, agreement_required=agreement)
        return history.HistoryThenTip(
            failover.Failover([("rpc", rpc)], terms, metrics),
            [rpc],
            LakeLedgers(LakeSettings(url=self.folder.as_uri()), reader) if lake else None,
            history.Terms(behind_ledgers=behind, alarm_percent=25),
            metrics,
        )


@pytest.fixture
def route(tmp_path: Path) -> Iterator[Route]:
    """A network that closes a ledger when it is told to."""
    with serve_in_thread(LocalNetwork()) as running:
        yield Route(served=running, folder=tmp_path / "lake")


async def open_desk(db: Database, tenant: TenantId) -> Desk:
    desk = Desk(db=db, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await desk.list_asset(XLM, "XLM", 7)
    return desk


@pytest.fixture
async def other_database(cluster: Cluster) -> AsyncIterator[Database]:
    """A second database, for the same story told without an interruption."""
    name = await cluster.create()
    opened = Database(cluster.dsn(name, "custody_app"), pool_size=5)
    yield opened
    await opened.close()
    await cluster.drop(name)


async def test_killed_anywhere_and_started_again_across_the_border_gives_the_rows_of_one_straight_run(
    database: Database, tenant: TenantId, other_database: Database, route: Route
) -> None:
    async with other_database.unit_of_work(None) as uow:
        other_tenant = await identity.create_tenant(uow, "acme")
    desks = [await open_desk(database, tenant), await open_desk(other_database, other_tenant)]
    for desk in desks:
        ada = await desk.open_wallet("ada")
        vault = await desk.open_omnibus()
        address = await desk.issue_address(ada)

    def pay() -> None:
        with Outsider(route.served.url, drive=True) as outsider:
            outsider.fund(vault.account)
            payer = outsider.new_account()
            for amount in range(1, 16):
                outsider.pay(payer, address.address, amount)

    await asyncio.to_thread(pay)
    straight = desks[1]
    source = open_whole(route, straight.db)
    await catch_up(build_loop(straight.db, source, await take_fence(straight.db, CHAIN)))
    await source.aclose()

    LakeWriter(route.folder, route.network.passphrase, LAYOUT).write(metas_of(route.network), 2)
    route.network.order_faults({"keep_ledgers": KEPT})
    assert await asyncio.to_thread(lambda: route.network.oldest.sequence) > 10
    killed = desks[0]
    lives = await die_often(killed, route)
    assert lives > 20
    before = ungrouped(await rows(straight.db, straight.tenant))
    after = ungrouped(await rows(killed.db, killed.tenant))
    assert after == before
    assert len(after["deposits"]) == 16
    assert await killed.owed(ada, XLM) == await straight.owed(ada, XLM) == sum(range(1, 16))


def ungrouped(found: dict[str, list[tuple[Any, ...]]]) -> dict[str, list[tuple[Any, ...]]]:
    """All but what tells how many ledgers became final at once: postings of one commit, and the order of the audit's entries."""
    outbox = [row for row in found["outbox"] if row[0] != "ledger.posted"]
    audit = sorted(row[1:] for row in found["audit_entries"])
    return found | {"outbox": outbox, "audit_entries": audit}


def open_whole(route: Route, db: Database) -> history.HistoryThenTip:
    return route.open(reader_of(route, db), lake=False)


def reader_of(route: Route, db: Database) -> LedgerReader:
    return LedgerReader(CHAIN, EventReader(route.network.passphrase), build_watch(CHAIN, db), audit=True)


async def die_often(desk: Desk, route: Route) -> int:
    """Follow the chain in lives that end before some statement, each with a source of its own. Returns how many died.

    A life that moved nothing is followed by one that gets a few statements further.
    """
    dying = DyingDatabase(desk.db)
    lives, further, before = 0, 9, await stands_at(desk)
    try:
        while True:
            source = route.open(reader_of(route, desk.db))
            dying.left = further
            try:
                await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))
            except Crash:
                lives += 1
            else:
                return lives
            finally:
                dying.left = 0
                await source.aclose()
            standing = await stands_at(desk)
            further = further + 5 if standing == before else 9
            before = standing
    finally:
        dying.close()


async def test_a_lake_of_another_history_is_found_out_before_the_border_is_booked(
    database: Database, tenant: TenantId, route: Route
) -> None:
    desk = await open_desk(database, tenant)
    forged = LocalNetwork(clock=lambda: 1_000_000_000)
    close_ledgers(route.network, 20)
    close_ledgers(forged, 20)
    LakeWriter(route.folder, forged.passphrase, LAYOUT).write(metas_of(forged), 2)
    route.network.order_faults({"keep_ledgers": KEPT})
    source = route.open(reader_of(route, desk.db))
    with pytest.raises(ProvidersDisagree):
        await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))
    async with desk.db.read(None) as session:
        stands = await cursor.load(session, CHAIN)
    assert stands is not None
    assert stands.height < route.network.oldest.sequence
    await source.aclose()


async def test_what_the_provider_keeps_is_compared_with_the_lake(route: Route) -> None:
    forged = LocalNetwork(clock=lambda: 1_000_000_000)
    close_ledgers(route.network, 20)
    close_ledgers(forged, 20)
    LakeWriter(route.folder, forged.passphrase, LAYOUT).write(metas_of(forged), 2)
    source = route.open(open_reader(route.network), behind=3)
    await source.head()
    with pytest.raises(ProvidersDisagree) as caught:
        await source.fetch(2, 9)
    assert {caught.value.values["provider"], caught.value.values["other_provider"]} == {"lake", "rpc"}
    await source.aclose()


async def test_the_lake_is_read_while_much_is_missing_and_the_provider_stands_in_for_it(route: Route) -> None:
    close_ledgers(route.network, 22)
    writer = LakeWriter(route.folder, route.network.passphrase, LAYOUT)
    writer.write(metas_of(route.network), 2)
    writer.path_of(12).unlink()
    source = route.open(open_reader(route.network), behind=5, agreement=True)
    await source.verify_network()
    await source.head()
    assert len(await source.fetch(2, 11)) == 10
    assert len(await source.fetch(22, 22)) == 1
    assert figure(source, "fetched_blocks_total", "lake") == 10
    assert figure(source, "fetched_blocks_total", "rpc") == 1
    assert len(await source.fetch(12, 15)) == 4
    assert figure(source, "fetched_blocks_total", "rpc") == 5
    assert shown(source.metrics, f'lake_faults_total{{chain="{CHAIN}"}}') == 1
    route.network.order_faults({"keep_ledgers": 2})
    fresh = route.open(open_reader(route.network))
    await fresh.head()
    with pytest.raises(LakeGap):
        await fresh.fetch(12, 15)
    for each in (source, fresh):
        await each.aclose()


async def test_between_the_end_of_the_lake_and_what_providers_keep_the_worker_waits(route: Route) -> None:
    close_ledgers(route.network, 22)
    LakeWriter(route.folder, route.network.passphrase, LAYOUT).write(metas_of(route.network)[:10], 2)
    route.network.order_faults({"keep_ledgers": 3})
    source = route.open(open_reader(route.network))
    await source.head()
    assert [each.ref.height for each in await source.fetch(10, 19)] == [10, 11]
    with pytest.raises(Unavailable):
        await source.fetch(12, 19)
    await source.aclose()


async def test_without_a_lake_lost_history_is_named_and_its_end_was_told_before(route: Route) -> None:
    close_ledgers(route.network, 40)
    route.network.order_faults({"keep_ledgers": 20})
    first = route.network.latest.sequence - 10
    # Of the twenty ledgers kept, the next one is the tenth, then the sixth, then the fourth before the end.
    for passed, alarm in ((0, 0), (4, 0), (2, 1)):
        close_ledgers(route.network, passed)
        source = route.open(open_reader(route.network), lake=False)
        await source.head()
        with structlog.testing.capture_logs() as told:
            await source.fetch(first, first + 1)
            await source.fetch(first, first + 1)
        assert shown(source.metrics, f'retention_alarm{{chain="{CHAIN}"}}') == alarm
        assert [each["event"] for each in told] == ["ingestion.history_expires"] * alarm
        await source.aclose()
    close_ledgers(route.network, 20)
    source = route.open(open_reader(route.network), lake=False)
    await source.head()
    with pytest.raises(HistoryLost):
        await source.fetch(first, first + 1)
    await source.aclose()


@pytest.mark.parametrize(
    ("oldest", "newest", "kept", "height", "left"),
    [
        (2, 11, 100, 2, 90),  # a young node: it fills up before it drops anything
        (2, 101, 100, 2, 0),  # the next ledger that closes pushes it out
        (2, 101, 100, 101, 99),
        (50, 149, 100, 49, -1),  # gone
        (2, 201, 100, 2, 0),  # keeps more than it must
    ],
)
def test_how_many_ledgers_are_left_before_one_is_dropped(
    oldest: int, newest: int, kept: int, height: int, left: int
) -> None:
    assert Window(oldest=oldest, newest=newest, kept=kept).left(height) == left


async def test_a_running_network_is_exported_again_and_again(route: Route, tmp_path: Path) -> None:
    close_ledgers(route.network, 9)
    folder = tmp_path / "exported"
    assert await asyncio.to_thread(export, route.served.url, folder, LAYOUT) == 11
    close_ledgers(route.network, 4)
    options = ["--rpc", route.served.url, "--folder", str(folder), "--ledgers-per-batch", "4"]
    assert await asyncio.to_thread(write_lake, [*options, "--batches-per-partition", "2"]) == 0
    lake = LakeLedgers(LakeSettings(url=folder.as_uri()), open_reader(route.network))
    await lake.verify_network()
    assert (await lake.head()).height == 15
    assert len(await lake.fetch(6, 15)) == 10
    await lake.aclose()


def figure(source: history.HistoryThenTip, series: str, origin: str) -> float:
    return shown(source.metrics, f'{series}{{chain="{CHAIN}",source="{origin}"}}')
