"""When credits are booked on a real anvil: by tags, by an asset's own rule, and after several providers named the block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from structlog.testing import capture_logs

from custody.chains.evm.address import checksum
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.kernel.assetid import AssetId
from custody.kernel.clock import SystemClock
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId, WalletId
from custody.recon.vaults import VaultComparison
from custody.wallets.model import DepositAddress
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from ingestion.backfill import service as backfills
from ingestion.backfill.run import fill
from ingestion.errors import NodeLacksTag, TagMissing
from ingestion.evm.providers import EvmProviders
from ingestion.evm.worker import build_source
from ingestion.finality import terms_of
from ingestion.loop import Loop
from ingestion.metrics import Metrics
from tests.fakes.evm_provider import EvmProvider, is_tag, run_evm_provider
from tests.fakes.key_maker import FakeKeyMaker
from tests.fakes.ledger_network import shown
from tests.integration.anvil_node import run_anvil
from tests.integration.backfill_harness import ignore
from tests.integration.evm_stage import CHAIN, ETH, evm_settings
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, take_fence

pytestmark = pytest.mark.stack
BLOCK = "eth_getBlockByNumber"
LARGE = 10**18


class Town:
    """A chain whose safe block is one below the newest and whose finalized block is two below, two providers, and a customer."""

    def __init__(self, desk: Desk, url: str, providers: list[EvmProvider], outsider: Outsider) -> None:
        self.desk, self.url, self.outsider = desk, url, outsider
        self.first, self.second = providers
        self.metrics = Metrics(CHAIN, SystemClock())
        self.opened: list[EvmProviders] = []
        self.usd = ETH

    async def settle_down(self) -> tuple[WalletId, DepositAddress]:
        await self.desk.list_asset(ETH, "ETH", 18)
        token = checksum(await self.outsider.deploy_token())
        self.usd = AssetId(CHAIN, f"erc20:{token}")
        await self.desk.list_asset(self.usd, "TUSD", 6)
        ada = await self.desk.open_wallet("ada")
        return ada, await self.desk.issue_address(ada)

    async def mint(self, to: str, amount: int) -> None:
        await self.outsider.mint(self.usd.reference.partition(":")[2], to, amount)

    async def start(self, **chosen: Any) -> Loop:
        """A worker that has just started."""
        settings = evm_settings(
            self.first.url, **{"other_rpc_urls": (self.second.url,), "confirmations": 0, **chosen}
        )
        source = build_source(settings, self.desk.db, self.metrics)
        self.opened.append(source)
        await source.verify_network()
        fence = await take_fence(self.desk.db, CHAIN)
        return build_loop(self.desk.db, source, fence, terms=terms_of(settings), metrics=self.metrics)

    async def owed(self, wallet: WalletId) -> tuple[int, int]:
        return await self.desk.owed(wallet, ETH), await self.desk.owed(wallet, self.usd)

    async def differences(self) -> list[int | None]:
        """What reconciliation finds with the node's own balances."""
        client = EvmRpc(CHAIN, JsonRpc(self.url), CHAIN_ID)
        compared = VaultComparison(self.desk.db, self.desk.tenant, {CHAIN: client}, ask_nodes=True)
        await compared.look()
        await client.aclose()
        return [row.difference for row in compared.rows()]

    def waiting(self) -> float:
        return shown(self.metrics, f'credits_waiting{{chain="{CHAIN}"}}')


@pytest.fixture
async def town(database: Database, tenant: TenantId) -> AsyncIterator[Town]:
    """A fresh chain."""
    async with AsyncExitStack() as open_now:
        url = await open_now.enter_async_context(run_anvil("--slots-in-an-epoch", "1"))
        outsider = await open_now.enter_async_context(Outsider(url))
        providers = [await open_now.enter_async_context(run_evm_provider(url)) for _ in range(2)]
        desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
        made = Town(desk, url, providers, outsider)
        yield made
        for source in made.opened:
            await source.aclose()


async def test_a_chain_credits_at_its_tag_and_an_asset_waits_for_its_own(town: Town) -> None:
    ada, address = await town.settle_down()
    loop = await town.start(finality_tag="safe", assets={town.usd.reference: {"finality_tag": "finalized"}})
    await town.mint(address.address, 500)
    await town.outsider.send_ether(address.address, 7)
    await catch_up(loop)
    # The newest block holds the ether; the one below is safe, and holds the tokens, which are to be finalized.
    assert await town.owed(ada) == (0, 0)
    assert await town.differences() == [0, 0]
    await town.outsider.mine()
    await catch_up(loop)
    assert await town.owed(ada) == (7, 500)
    await town.mint(address.address, 50)
    await town.outsider.mine()
    await catch_up(loop)
    assert await town.owed(ada) == (7, 500)
    assert [each.state for each in await town.desk.deposits()] == ["credited", "credited", "observed"]
    assert await town.differences() == [0, 0], "what waits is no difference"
    # A new worker knows of no tag before it has asked, and asks before anything is booked.
    loop = await town.start(finality_tag="safe", assets={town.usd.reference: {"finality_tag": "finalized"}})
    await town.outsider.mine()
    await catch_up(loop)
    assert await town.owed(ada) == (7, 550)


async def test_a_tag_counts_beside_confirmations_and_only_for_the_chain_that_we_have(town: Town) -> None:
    ada, address = await town.settle_down()
    loop = await town.start(finality_tag="safe", confirmations=3)
    await town.outsider.send_ether(address.address, 7)
    await town.outsider.mine(2)
    await catch_up(loop)
    assert await town.owed(ada) == (0, 0), "safe, and two blocks follow"
    await town.outsider.mine()
    await catch_up(loop)
    assert await town.owed(ada) == (7, 0)
    vouched = 4
    # The tag moves back, and then names a block that is not ours: what it vouched for stays, and grows no more.
    for each in (town.first, town.second):
        each.tag(0)
    await town.outsider.send_ether(address.address, 5)
    await town.outsider.mine(4)
    with capture_logs() as logs:
        await catch_up(loop)
    assert "ingestion.tag_moved_back" in {each["event"] for each in logs}
    assert await town.desk.final_height() == vouched
    for each in (town.first, town.second):
        each.lie(BLOCK, lambda params, true: true | {"hash": "0x" + "99" * 32} if is_tag(params) else true)
    await catch_up(loop)
    assert (await town.desk.final_height(), await town.owed(ada)) == (vouched, (7, 0))
    for each in (town.first, town.second):
        each.be_honest()
    await catch_up(loop)
    assert await town.owed(ada) == (12, 0)


async def test_a_reorganisation_takes_back_what_was_vouched_for(town: Town) -> None:
    ada, address = await town.settle_down()
    loop = await town.start(finality_tag="safe")
    await town.outsider.send_ether(address.address, 7)
    await town.outsider.mine()
    await catch_up(loop)
    assert await town.owed(ada) == (7, 0)
    height = int(await town.outsider.call("eth_blockNumber"), 16)
    await town.outsider.call("anvil_reorg", 2, [])
    # The new branch reaches as far as the old one; its blocks are not safe because others of their heights were.
    for each in (town.first, town.second):
        each.tag(0)
    await town.outsider.send_ether(address.address, 5)
    await catch_up(loop)
    assert await town.owed(ada) == (0, 0)
    assert await town.desk.final_height() < height - 1
    for each in (town.first, town.second):
        each.be_honest()
    await town.outsider.mine()
    await catch_up(loop)
    assert await town.owed(ada) == (5, 0)


async def test_a_node_that_lacks_the_tag_is_named_at_the_start_and_a_young_one_is_waited_for(
    town: Town,
) -> None:
    def refuse(words: str, code: int) -> None:
        true = town.second.node.answers[BLOCK]
        town.second.node.answers[BLOCK] = lambda params: (
            {"error": {"code": code, "message": words}} if is_tag(params) else true(params)
        )

    refuse("invalid argument 0: hex string without 0x prefix", -32602)
    with pytest.raises(NodeLacksTag):
        await town.start(finality_tag="finalized")
    town.second.be_honest()
    refuse("finalized block not found", -39001)
    # One that is ready is enough to begin; alone the young one is waited for.
    await town.start(finality_tag="finalized")
    with pytest.raises(TagMissing) as caught:
        await build_source(
            evm_settings(town.second.url, confirmations=0, finality_tag="finalized"), town.desk.db
        ).verify_network()
    assert isinstance(caught.value, Unavailable)


@pytest.mark.parametrize("always", [False, True], ids=["from an amount on", "every credit"])
async def test_a_large_credit_waits_until_providers_agree_on_its_block(town: Town, always: bool) -> None:
    chosen: dict[str, Any] = {"assets": {"native": {"agreement_from": str(LARGE)}}}
    if always:
        chosen = {"agreement_required": True}
    ada, address = await town.settle_down()
    loop = await town.start(**chosen)
    await town.outsider.send_ether(address.address, LARGE - 1)
    await town.outsider.send_ether(address.address, LARGE)
    await town.mint(address.address, 9)
    town.second.lie(BLOCK, lambda params, true: true | {"hash": "0x" + "77" * 32})
    await catch_up(loop)
    held = 3 if always else 1
    assert await town.owed(ada) == ((0, 0) if always else (LARGE - 1, 9))
    assert town.waiting() == held
    assert await town.differences() == [0, 0]
    town.second.go_away()
    await catch_up(loop)
    assert town.waiting() == held
    # A backfill reads the same blocks, and leaves the large ones to the loop.
    async with town.desk.db.unit_of_work(None) as uow:
        ordered = await backfills.order(uow, CHAIN, "", 1, 3)
    terms = terms_of(
        evm_settings(town.first.url, other_rpc_urls=(town.second.url,), confirmations=0, **chosen)
    )
    source = town.opened[-1]
    await fill(town.desk.db, source, ordered.id, caution=terms.untouched(), stop=asyncio.Event(), told=ignore)
    assert await town.owed(ada) == ((0, 0) if always else (LARGE - 1, 9))
    # It agrees: the credit is booked without a new block.
    town.second.be_honest()
    async with asyncio.timeout(60):
        while town.waiting():
            await loop.step()
            await asyncio.sleep(0.02)
    assert await town.owed(ada) == (2 * LARGE - 1, 9)
    assert town.waiting() == 0
