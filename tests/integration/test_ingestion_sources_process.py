"""The worker as a process on a lake and two providers: killed in history, failed over at the tip, stopped by a contradiction."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from custody.holdings import sending
from devnet.stellar.lake import LakeWriter
from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from ingestion.stellar.lake_layout import Layout
from tests.fakes.ledger_network import close_ledgers
from tests.fakes.ledger_provider import LedgerProvider, metas_of, run_provider
from tests.integration.ingestion_harness import Desk
from tests.integration.stellar_stage import CHAIN, XLM, desk
from tests.integration.test_ingestion_process import reach_the_tip, worker

__all__ = ["desk"]

LAYOUT = Layout(ledgers_per_batch=4, batches_per_partition=2)

pytestmark = pytest.mark.stack


@pytest.fixture
def served() -> Iterator[Served]:
    """A network that closes a ledger when it is told to: the first provider."""
    with serve_in_thread(LocalNetwork()) as running:
        yield running


@pytest.fixture
async def second(served: Served) -> AsyncIterator[LedgerProvider]:
    """The second provider of the same network."""
    async with run_provider(served.network) as provider:
        yield provider


@pytest.fixture
def config(tmp_path: Path, app_dsn: str, served: Served, second: LedgerProvider) -> Path:
    """The product's configuration file, as an operator would write it."""
    written = tmp_path / "custody.toml"
    written.write_text(
        f"""
environment = "development"
intent_valid_s = 60
[database]
url = "{app_dsn}"
[redis]
url = "redis://127.0.0.1:1/0"
[signer]
socket = "{tmp_path}/signer.sock"
[api]
port = 18080
[[chains]]
id = "{CHAIN}"
kind = "stellar"
rpc_url = "{served.url}"
other_rpc_urls = ["{second.url}"]
start_height = 2
network_passphrase = "{served.network.passphrase}"
audit_ledgers = true
confirmations = 0
poll_interval_s = 0.05
max_fee_stroops = 10000
tx_valid_s = 60
tx_valid_ledgers = 20
[chains.lake]
url = "{(tmp_path / "lake").as_uri()}"
""",
        encoding="utf-8",
    )
    return written


async def test_history_comes_from_the_lake_and_the_tip_from_whoever_is_there(
    desk: Desk, config: Path, served: Served, second: LedgerProvider
) -> None:
    ada = await desk.open_wallet("ada")
    vault = await desk.open_omnibus()
    address = await desk.issue_address(ada)

    def pay(times: int) -> None:
        with Outsider(served.url, drive=True) as outsider:
            payer = outsider.new_account()
            for _ in range(times):
                outsider.pay(payer, address.address, 7)

    with Outsider(served.url, drive=True) as outsider:
        await asyncio.to_thread(outsider.fund, vault.account)
    await asyncio.to_thread(pay, 20)
    close_ledgers(served.network, 20)
    LakeWriter(config.parent / "lake", served.network.passphrase, LAYOUT).write(metas_of(served.network), 2)
    served.network.order_faults({"keep_ledgers": 6})
    async with worker(config) as process:
        async with asyncio.timeout(60):
            # Another process moves the books: the database has to be asked.
            while await desk.final_height() < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with worker(config, "--health-port", str(port)) as process:
        await reach_the_tip(desk, served)
        served.network.order_faults({"outage": True})
        close_ledgers(served.network, 3)
        await reach_the_tip(desk, served)
        async with httpx.AsyncClient(trust_env=False) as client:
            shown = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            assert (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert await desk.owed(ada, XLM) == 20 * 7
    assert len(await desk.deposits()) == 21
    first_name = served.url.removeprefix("http://")
    assert f'provider_up{{chain="{CHAIN}",provider="{first_name}"}} 0.0' in shown
    assert f'provider_up{{chain="{CHAIN}",provider="{second.name}"}} 1.0' in shown
    assert f'source_trust{{chain="{CHAIN}",source="lake"}} 2.0' in shown
    assert f'fetched_blocks_total{{chain="{CHAIN}",source="rpc"}}' in shown


async def test_two_providers_that_contradict_each_other_end_the_process_with_both_names(
    desk: Desk, config: Path, served: Served, second: LedgerProvider
) -> None:
    LakeWriter(config.parent / "lake", served.network.passphrase, LAYOUT).write(metas_of(served.network), 2)
    async with worker(config) as process:
        await reach_the_tip(desk, served)
        before = await desk.final_height()
        second.view.forged_at = before + 1
        served.network.close()
        async with asyncio.timeout(60):
            _, words = await process.communicate()
        assert process.returncode == 1
        assert b"ingestion_providers_disagree" in words
        assert second.name.encode() in words
        assert served.url.removeprefix("http://").encode() in words
    assert await desk.final_height() <= before + 1
    # At once nothing new is sent there, and again when a worker is back at the tip.
    async with desk.db.read(None) as session:
        assert await sending.find_trouble(session, desk.chain) == "ingestion_providers_disagree"
        assert await sending.find_stop(session, desk.chain, 120) == "chain_halted"
    second.view.forged_at = 0
    async with worker(config), asyncio.timeout(60):
        while await still_stopped(desk):  # noqa: ASYNC110 (the database has to be asked)
            await asyncio.sleep(0.05)


async def still_stopped(desk: Desk) -> bool:
    async with desk.db.read(None) as session:
        return await sending.find_stop(session, desk.chain, 120) is not None
