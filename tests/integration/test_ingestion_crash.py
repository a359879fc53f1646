"""A worker that dies before any statement, and starts again, ends with the same rows; two workers never both write."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from stellar_sdk import IdMemo

from custody.kernel.clock import FixedClock
from custody.settings import ChainSettings
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served
from ingestion.health import Status
from ingestion.lease import Lease
from ingestion.main import run_worker
from ingestion.metrics import Metrics
from ingestion.stellar.sources import RpcLedgers
from tests.integration.crash_harness import die_before_every_statement, rows
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, take_fence
from tests.integration.stellar_stage import CHAIN, XLM, desk, served, source

__all__ = ["desk", "served", "source"]

pytestmark = pytest.mark.stack


async def test_dying_before_any_statement_and_starting_again_leaves_each_deposit_booked_once(
    desk: Desk, source: RpcLedgers, served: Served
) -> None:
    ada = await desk.open_wallet("ada")
    vault = await desk.open_omnibus()
    address = await desk.issue_address(ada)
    await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))

    def pay() -> None:
        with Outsider(served.url, drive=True) as outsider:
            outsider.fund(vault.account)
            payer = outsider.new_account()
            outsider.pay(payer, address.address, 500)
            outsider.pay(payer, vault.account, 11, memo=IdMemo(99))

    await asyncio.to_thread(pay)
    crashes = await die_before_every_statement(desk, lambda fence: build_loop(desk.db, source, fence))
    assert crashes > 100
    after = await rows(desk.db, desk.tenant)
    await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))
    assert await rows(desk.db, desk.tenant) == after
    assert await desk.owed(ada, XLM) == 500
    assert await desk.suspended(XLM) == 10_000 * 10**7 + 11
    assert len(after["deposits"]) == 3
    assert len(after["ledger_transfers"]) == 3
    assert len([row for row in after["outbox"] if row[0].startswith("deposit.")]) == 6
    assert {row[2] for row in after["ingestion_cursors"]} == {served.network.latest.hash.hex()}


async def test_a_second_worker_waits_for_the_lease_and_goes_on_when_it_is_free(
    desk: Desk, source: RpcLedgers, served: Served
) -> None:
    settings = ChainSettings(
        id=CHAIN,
        kind="stellar",
        rpc_url=served.url,
        network_passphrase=served.network.passphrase,
        confirmations=0,
        poll_interval_s=0.01,
        max_fee_stroops=1000,
        tx_valid_s=60,
        tx_valid_ledgers=20,
    )
    stop = asyncio.Event()
    status = Status()
    clock = FixedClock(datetime(2100, 1, 1, tzinfo=UTC))
    metrics = Metrics(CHAIN, clock)
    async with Lease(desk.db, CHAIN) as first:
        assert await first.take()
        second = asyncio.create_task(
            run_worker(desk.db, source, settings, stop=stop, metrics=metrics, status=status)
        )
        await asyncio.sleep(0.3)
        assert status.waiting_for_lease
        assert await desk.final_height() == -1
    await reach_the_tip(desk, served)
    assert not status.waiting_for_lease
    stop.set()
    async with asyncio.timeout(10):
        await second
    shown = metrics.text().decode()
    age = float(shown.split(f'custody_ingestion_lag_seconds{{chain="{CHAIN}"}} ')[1].split()[0])
    assert age == clock.now().timestamp() - served.network.latest.close_time
    assert f'custody_ingestion_cursor_height{{chain="{CHAIN}"}}' in shown
    assert f'custody_ingestion_lag_blocks{{chain="{CHAIN}"}} 0.0' in shown


async def test_an_outage_is_waited_out(desk: Desk, source: RpcLedgers, served: Served) -> None:
    stop = asyncio.Event()
    loop = build_loop(desk.db, source, await take_fence(desk.db, CHAIN), stop=stop)
    served.network.order_faults({"outage_next": 3})
    running = asyncio.create_task(loop.run())
    await reach_the_tip(desk, served)
    stop.set()
    async with asyncio.timeout(10):
        await running


async def reach_the_tip(desk: Desk, served: Served) -> None:
    """Return when the books stand at the network's newest ledger."""
    async with asyncio.timeout(30):
        # The database has to be asked: nothing on this side could set an event.
        while await desk.final_height() < served.network.latest.sequence:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
