"""An EVM chain as operators configure it: a file, a preset, two providers, a socket; the worker as a process, and its status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from custody.chains.evm.address import checksum
from custody.db.session import Database
from custody.kernel.assetid import AssetId
from custody.kernel.ids import TenantId
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from tests.fakes.evm_provider import EvmProvider, is_tag, run_evm_provider
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.anvil_node import run_anvil
from tests.integration.evm_stage import CHAIN, ETH
from tests.integration.ingestion_harness import Desk
from tests.integration.test_ingestion_command import command, status
from tests.integration.test_ingestion_process import worker

pytestmark = pytest.mark.stack
LARGE = 10**18


class Site:
    """A chain, two providers of it, and the file."""

    def __init__(self, url: str, first: EvmProvider, second: EvmProvider, file: Path, dsn: str) -> None:
        self.url, self.first, self.second, self.file, self.dsn = url, first, second, file, dsn

    def write(self, chain: str) -> None:
        self.file.write_text(
            f"""
environment = "development"
intent_valid_s = 60
[database]
url = "{self.dsn}"
[redis]
url = "redis://127.0.0.1:1/0"
[signer]
socket = "{self.file.parent}/signer.sock"
[api]
port = 18080
[[chains]]
preset = "ethereum"
id = "{CHAIN}"
chain_id = {CHAIN_ID}
wrapped_native = []
rpc_url = "{self.first.url}"
other_rpc_urls = ["{self.second.url}"]
gas_limit_native = 21000
gas_limit_erc20 = 100000
max_fee_per_gas_wei = 100000000000
max_priority_fee_per_gas_wei = 2000000000
tx_valid_s = 60
{chain}
""",
            encoding="utf-8",
        )


@pytest.fixture
async def site(tmp_path: Path, app_dsn: str) -> AsyncIterator[Site]:
    """A fresh chain whose finalized block is two below the newest."""
    async with AsyncExitStack() as open_now:
        url = await open_now.enter_async_context(run_anvil("--slots-in-an-epoch", "1"))
        first, second = [await open_now.enter_async_context(run_evm_provider(url)) for _ in range(2)]
        yield Site(url, first, second, tmp_path / "custody.toml", app_dsn)


async def test_a_worker_follows_a_chain_by_its_file_and_status_names_providers_and_what_waits(
    database: Database, tenant: TenantId, site: Site
) -> None:
    site.write(
        f"""
ws_url = "{site.url.replace("http", "ws")}"
poll_interval_s = 0.2
[chains.assets.native]
agreement_from = "{LARGE}"
"""
    )
    desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await desk.list_asset(ETH, "ETH", 18)
    ada = await desk.open_wallet("ada")
    address = await desk.issue_address(ada)
    site.second.lie("eth_getBlockByNumber", lambda _params, true: true and true | {"hash": "0x" + "77" * 32})
    async with (
        Outsider(site.url) as outsider,
        worker(site.file, chain=CHAIN) as process,
        asyncio.timeout(120),
    ):
        usd = AssetId(CHAIN, f"erc20:{checksum(await outsider.deploy_token())}")
        await desk.list_asset(usd, "TUSD", 6)
        await outsider.send_ether(address.address, LARGE)
        await outsider.mint(usd.reference.partition(":")[2], address.address, 500)
        await outsider.mine(2)
        while await desk.owed(ada, usd) != 500:  # noqa: ASYNC110 (another process moves the books)
            await asyncio.sleep(0.05)
        assert await desk.owed(ada, ETH) == 0, "the second provider names another block"
        heads = f"heads_heard/{site.url.removeprefix('http://')}"
        code, gauges = None, {"credits_waiting": 0, heads: 0}
        while not (gauges.get("credits_waiting") and gauges.get(heads)):
            await outsider.mine()
            code, seen = await status(site.file)
            gauges = seen["worker"]["gauges"]
        assert (code, [each["code"] for each in seen["alarms"]]) == (1, ["credits_waiting"])
        assert (gauges["credits_waiting"], gauges["source_trust/rpc"]) == (1, 2)
        assert {gauges[f"provider_up/{each.name}"] for each in (site.first, site.second)} == {1}
        _, words, _ = await command(site.file, "status")
        shown = "".join(words.split())
        assert site.first.name in shown
        assert "1creditswait" in shown
        site.second.be_honest()
        while await desk.owed(ada, ETH) != LARGE:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        process.terminate()
        assert await process.wait() == 0


async def test_what_cannot_work_ends_the_worker_with_its_name(site: Site) -> None:
    site.write('finality_tag = "final"')
    async with worker(site.file, chain=CHAIN) as process:
        _, words = await process.communicate()
    assert process.returncode == 1
    assert b"finality_tag" in words
    site.write("")
    true = site.second.node.answers["eth_getBlockByNumber"]
    site.second.node.answers["eth_getBlockByNumber"] = lambda params: (
        {"error": {"code": -32602, "message": "hex string without 0x prefix"}}
        if is_tag(params)
        else true(params)
    )
    async with worker(site.file, chain=CHAIN) as process:
        _, words = await process.communicate()
    assert process.returncode == 1
    assert b"ingestion_node_lacks_tag" in words
