"""The worker as a process: it starts from its configuration, is killed and started again, and ends when told to."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served
from tests.integration.ingestion_harness import Desk
from tests.integration.stellar_stage import CHAIN, XLM, desk, served

__all__ = ["desk", "served"]

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.stack


@pytest.fixture
def config(tmp_path: Path, app_dsn: str, served: Served) -> Path:
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
network_passphrase = "{served.network.passphrase}"
confirmations = 0
poll_interval_s = 0.05
max_fee_stroops = 10000
tx_valid_s = 60
tx_valid_ledgers = 20
""",
        encoding="utf-8",
    )
    return written


@asynccontextmanager
async def worker(
    config: Path, *options: str, chain: str = CHAIN
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running worker; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ingestion.main", "--chain", chain, *options),
        cwd=ROOT,
        env={"PATH": os.defpath, "LANG": "C.UTF-8", "CUSTODY_CONFIG": str(config)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def reach_the_tip(desk: Desk, served: Served) -> None:
    """Return when the books stand at the network's newest ledger."""
    async with asyncio.timeout(60):
        # Another process moves the books: the database has to be asked.
        while await desk.final_height() < served.network.latest.sequence:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_worker_killed_and_started_again_credits_once_and_ends_with_zero_when_told(
    desk: Desk, config: Path, served: Served
) -> None:
    ada = await desk.open_wallet("ada")
    vault = await desk.open_omnibus()
    address = await desk.issue_address(ada)

    def pay(amount: int) -> None:
        with Outsider(served.url, drive=True) as outsider:
            outsider.pay(outsider.new_account(), address.address, amount)

    with Outsider(served.url, drive=True) as outsider:
        await asyncio.to_thread(outsider.fund, vault.account)
    for life in (1, 2, 3):
        async with worker(config) as process:
            await asyncio.to_thread(pay, life)
            if life == 3:
                await reach_the_tip(desk, served)
            process.send_signal(signal.SIGKILL if life < 3 else signal.SIGTERM)
            assert await process.wait() == (-signal.SIGKILL if life < 3 else 0)
    assert await desk.owed(ada, XLM) == 6
    assert len(await desk.deposits()) == 4


async def test_health_tells_operators_how_far_the_chain_is_followed(
    desk: Desk, config: Path, served: Served
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with worker(config, "--health-port", str(port)), httpx.AsyncClient(trust_env=False) as client:
        await reach_the_tip(desk, served)
        base = f"http://127.0.0.1:{port}"
        assert (await client.get(f"{base}/livez")).status_code == 200
        assert (await client.get(f"{base}/readyz")).status_code == 200
        assert (await client.get(f"{base}/other")).status_code == 404
        shown = (await client.get(f"{base}/metrics")).text
    head = served.network.latest.sequence
    assert f'custody_ingestion_cursor_height{{chain="{CHAIN}"}} {float(head)}' in shown
    assert f'custody_ingestion_leased{{chain="{CHAIN}"}} 1.0' in shown


async def test_a_broken_hash_chain_ends_the_process_with_a_sentence(
    desk: Desk, config: Path, served: Served
) -> None:
    async with worker(config) as process:
        await reach_the_tip(desk, served)
        served.network.order_faults({"wrong_parent_next": 1})
        served.network.close()
        async with asyncio.timeout(60):
            _, words = await process.communicate()
        assert process.returncode == 1
        assert b"ingestion_broken_hash_chain" in words


async def test_a_chain_that_is_not_configured_is_refused_by_name(config: Path) -> None:
    async with worker(config, chain="stellar:nowhere") as process:
        _, words = await process.communicate()
        assert process.returncode == 2
        assert b"stellar:nowhere is not configured" in words
