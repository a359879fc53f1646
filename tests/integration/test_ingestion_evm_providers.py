"""Several providers of a real anvil: who lies, is away, boasts or tells too little is passed over; sockets only wake the loop."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from eth_account import Account
from structlog.testing import capture_logs
from websockets.asyncio.server import ServerConnection, serve

from custody.chains.evm.address import checksum
from custody.db.session import Database
from custody.kernel.assetid import AssetId
from custody.kernel.clock import SystemClock
from custody.kernel.errors import CustodyError, Unavailable
from custody.kernel.ids import TenantId, WalletId
from custody.settings import ChainSettings
from custody.wallets.model import DepositAddress
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from ingestion.errors import StateUnavailable
from ingestion.evm.errors import FeeUntold, ForgedBlock, LogsOmitted, UnprovableBlock
from ingestion.evm.heads import hearing
from ingestion.evm.providers import EvmProviders
from ingestion.evm.worker import build_source
from ingestion.finality import terms_of
from ingestion.health import Status
from ingestion.loop import Loop, Pace
from ingestion.metrics import Metrics
from ingestion.news import News
from tests.fakes.evm_provider import EvmProvider, run_evm_provider
from tests.fakes.key_maker import FakeKeyMaker
from tests.fakes.ledger_network import shown
from tests.integration.anvil_node import run_anvil
from tests.integration.evm_stage import CHAIN, ETH, evm_settings
from tests.integration.ingestion_harness import OMNIBUS_REQUEST, Desk, build_loop, catch_up, take_fence

pytestmark = pytest.mark.stack
BLOCK, RECEIPTS, RECEIPT, LOGS = (
    "eth_getBlockByNumber",
    "eth_getBlockReceipts",
    "eth_getTransactionReceipt",
    "eth_getLogs",
)


SHARED_GENESIS = ("--timestamp", "1700000000")
"""Two nodes that begin with the same block."""


class Market:
    """A chain, two providers of it, a token, and a customer who is paid in it."""

    def __init__(self, desk: Desk, url: str, providers: list[EvmProvider], outsider: Outsider) -> None:
        self.desk, self.url, self.outsider = desk, url, outsider
        self.first, self.second = providers
        self.metrics = Metrics(CHAIN, SystemClock())
        self.opened: list[EvmProviders] = []

    async def open(self) -> tuple[WalletId, DepositAddress]:
        await self.desk.list_asset(ETH, "ETH", 18)
        self.token = checksum(await self.outsider.deploy_token())
        self.usd = AssetId(CHAIN, f"erc20:{self.token}")
        await self.desk.list_asset(self.usd, "TUSD", 6)
        ada = await self.desk.open_wallet("ada")
        return ada, await self.desk.issue_address(ada)

    def settings(self, **chosen: Any) -> ChainSettings:
        defaults = {"other_rpc_urls": (self.second.url,), "confirmations": 0}
        return evm_settings(self.first.url, **(defaults | chosen))

    def source(self, **chosen: Any) -> EvmProviders:
        self.opened.append(build_source(self.settings(**chosen), self.desk.db, self.metrics))
        return self.opened[-1]

    async def start(self, **chosen: Any) -> Loop:
        source = self.source(**chosen)
        await source.verify_network()
        self.fence = await take_fence(self.desk.db, CHAIN)
        terms = terms_of(self.settings(**chosen))
        return build_loop(self.desk.db, source, self.fence, terms=terms, metrics=self.metrics)

    def listener(self, news: News | None, stop: asyncio.Event, poll_s: float) -> Loop:
        """A worker that waits at the tip."""
        return Loop(
            db=self.desk.db,
            source=self.opened[-1],
            pace=Pace(terms=terms_of(self.settings()), start_height=0, poll_interval_s=poll_s),
            fence=self.fence,
            stop=stop,
            metrics=self.metrics,
            status=Status(),
            news=news,
        )

    async def owed(self, wallet: WalletId) -> tuple[int, int]:
        return await self.desk.owed(wallet, ETH), await self.desk.owed(wallet, self.usd)

    def heard(self, ws_url: str) -> bool:
        name = ws_url.removeprefix("ws://")
        line = f'custody_ingestion_heads_heard{{chain="{CHAIN}",provider="{name}"}} 1.0'
        return line in self.metrics.text().decode()

    def stands(self, series: str, provider: EvmProvider) -> float:
        return shown(self.metrics, f'{series}{{chain="{CHAIN}",provider="{provider.name}"}}')


@pytest.fixture
async def market(database: Database, tenant: TenantId) -> AsyncIterator[Market]:
    """A fresh chain."""
    async with AsyncExitStack() as open_now:
        url = await open_now.enter_async_context(run_anvil(*SHARED_GENESIS))
        outsider = await open_now.enter_async_context(Outsider(url))
        providers = [await open_now.enter_async_context(run_evm_provider(url)) for _ in range(2)]
        made = Market(
            Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker()), url, providers, outsider
        )
        yield made
        for source in made.opened:
            await source.aclose()


def without_logs(_params: Any, true: Any) -> Any:
    """Receipts as if no contract had said anything."""
    return [{**each, "logs": []} for each in true]


def dearer(_params: Any, true: Any) -> Any:
    forged = copy.deepcopy(true)
    for each in (forged or {}).get("transactions", ()):
        if isinstance(each, dict):
            each["value"] = hex(10**30)
    return forged


def without_a_field(_params: Any, true: Any) -> Any:
    return true and {name: value for name, value in true.items() if name != "mixHash"}


@pytest.mark.parametrize(
    ("method", "lie", "named"),
    [
        (RECEIPTS, without_logs, ForgedBlock),
        (BLOCK, dearer, ForgedBlock),
        (BLOCK, without_a_field, UnprovableBlock),
        ("eth_getBalance", None, StateUnavailable),
    ],
    ids=["leaves logs out", "alters values", "cannot be proved", "has no state"],
)
async def test_whose_blocks_cannot_be_booked_is_passed_over_until_they_can(
    market: Market, method: str, lie: Any, named: type[CustodyError]
) -> None:
    ada, address = await market.open()
    loop = await market.start()
    alone = market.source(other_rpc_urls=())
    if lie is None:
        market.first.node.error(method, "missing trie node")
    else:
        market.first.lie(method, lie)
    await market.outsider.mint(market.token, address.address, 500)
    await market.outsider.send_ether(address.address, 7)
    # Without another one the same blocks are asked for again, and never handed out.
    for _ in range(2):
        with pytest.raises(named):
            await alone.fetch(1, 10)
    with capture_logs() as logs:
        await catch_up(loop)
    assert await market.owed(ada) == (7, 500)
    told = [each for each in logs if each["event"] == "ingestion.provider_unusable"]
    assert {each["provider"] for each in told} == {market.first.name}
    assert all(each["error"].startswith(named.code) for each in told)
    assert market.stands("provider_unusable", market.first) == 1
    market.first.be_honest()
    market.second.go_away()
    await market.outsider.send_ether(address.address, 5)
    await step_until(loop, lambda: market.stands("provider_unusable", market.first) == 0)
    await step_until(loop, lambda: market.stands("provider_up", market.second) == 0)
    assert await market.owed(ada) == (12, 500)


async def test_who_is_away_or_boasts_is_passed_over(market: Market) -> None:
    ada, address = await market.open()
    loop = await market.start()
    market.first.go_away()
    await market.outsider.send_ether(address.address, 7)
    await catch_up(loop)
    assert await market.owed(ada) == (7, 0)
    market.first.be_honest()
    # It names a block far above, and gives none of those below.
    market.first.lie(BLOCK, boast)
    await market.outsider.send_ether(address.address, 5)
    await step_until(loop, lambda: market.stands("provider_head_height", market.first) > 1_000)
    await market.outsider.send_ether(address.address, 1)
    await catch_up(loop)
    assert await market.owed(ada) == (13, 0)


def boast(params: Any, true: Any) -> Any:
    if params[0] == "latest":
        return {**true, "number": hex(10_000)}
    return None if int(params[0], 16) > 3 else true


async def test_two_branches_are_followed_as_the_provider_that_is_read_from_has_them(market: Market) -> None:
    """A switch to a provider of another branch is a reorganisation: taken back, and booked as that branch has it."""
    ada, address = await market.open()
    async with (
        run_anvil(*SHARED_GENESIS) as other_url,
        run_evm_provider(other_url) as other,
        Outsider(other_url) as outsider,
    ):
        await outsider.deploy_token()
        loop = await market.start(other_rpc_urls=(other.url,), confirmations=5)
        await market.outsider.send_ether(address.address, 7)
        await market.outsider.mine()
        await catch_up(loop)
        assert [each.state for each in await market.desk.deposits()] == ["observed"]
        await outsider.send_ether(address.address, 5)
        await outsider.mine(6)
        market.first.go_away()
        await step_until(loop, lambda: market.stands("provider_up", market.first) == 0)
        assert await market.owed(ada) == (5, 0)
    assert sorted(each.state for each in await market.desk.deposits()) == ["credited", "orphaned"]


async def test_a_receipt_that_hides_a_part_of_our_fee_is_not_booked(market: Market) -> None:
    """On the OP Stack the fee for data stands beside what the hashes hold."""
    await market.open()
    vault = await market.desk.open_omnibus()
    await market.outsider.send_ether(vault.account, 10**18)
    signed = Account.sign_transaction(
        {
            "chainId": CHAIN_ID,
            "nonce": 0,
            "gas": 21_000,
            "gasPrice": 10**11,
            "to": "0x" + "12" * 20,
            "value": 1,
        },
        OMNIBUS_REQUEST.bytes * 2,
    )
    await market.outsider.call("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
    source = market.source(l1_fee=True)
    with pytest.raises(FeeUntold):
        await source.fetch(1, 10)
    for each in (market.first, market.second):
        each.lie(RECEIPTS, lambda _params, true: [{**one, "l1Fee": "0x64"} for one in true])
    facts = await source.fetch(1, 10)
    (sent,) = [each for block in facts for each in block.transactions]
    assert sent.fee_atomic == 21_000 * 10**11 + 100


def without_whole_receipts(market: Market) -> None:
    for each in (market.first, market.second):
        each.lack(RECEIPTS)


async def test_receipts_one_by_one_are_asked_for_only_where_the_bloom_may_name_us(market: Market) -> None:
    ada, address = await market.open()
    without_whole_receipts(market)
    loop = await market.start()
    for _ in range(6):
        await market.outsider.mint(market.token, "0x" + "ab" * 20, 1)
    await market.outsider.mint(market.token, address.address, 500)
    await catch_up(loop)
    assert await market.owed(ada) == (0, 500)
    assert market.first.node.asked.count(RECEIPT) <= 2, "one, and at most one more by chance of the bloom"
    assert LOGS not in market.first.node.asked


async def test_a_list_of_logs_that_leaves_ours_out_is_found_out_by_the_sample(market: Market) -> None:
    ada, address = await market.open()
    without_whole_receipts(market)
    loop = await market.start(logs="sample", logs_sample_every=1)
    await market.outsider.mint(market.token, address.address, 500)
    await catch_up(loop)
    assert await market.owed(ada) == (0, 500)
    assert LOGS in market.first.node.asked
    market.first.lie(LOGS, lambda _params, _true: [])
    await market.outsider.mint(market.token, address.address, 50)
    with capture_logs() as logs:
        await catch_up(loop)
    assert await market.owed(ada) == (0, 550), "by the provider that leaves nothing out"
    (told,) = [each for each in logs if each["event"] == "ingestion.provider_unusable"]
    assert told["error"].startswith(LogsOmitted.code)
    assert market.stands("provider_unusable", market.first) == 1


async def test_what_is_not_sampled_is_believed_and_told(market: Market) -> None:
    """The price of `sample`: what two in a million blocks hide is found by reconciliation, not here."""
    ada, address = await market.open()
    without_whole_receipts(market)
    for each in (market.first, market.second):
        each.lie(LOGS, lambda _params, _true: [])
    loop = await market.start(logs="sample", logs_sample_every=10**12)
    await market.outsider.mint(market.token, address.address, 500)
    with capture_logs() as logs:
        await catch_up(loop)
    assert await market.owed(ada) == (0, 0)
    assert [each["blocks"] for each in logs if each["event"] == "ingestion.logs_believed"] == [1]
    assert shown(market.metrics, f'source_trust{{chain="{CHAIN}",source="rpc"}}') == 1


@pytest.mark.parametrize("news", ["honest", "dead", "silent", "lying"])
async def test_blocks_are_booked_whatever_the_socket_says(market: Market, news: str) -> None:
    ada, address = await market.open()
    # Only an honest socket may make up for polls that never come.
    poll_s = 3_600.0 if news == "honest" else 0.05
    async with socket_that_is(news, market.url) as ws_url:
        stop = asyncio.Event()
        await market.start()
        async with hearing(ws_url, CHAIN, market.metrics, stop) as told:
            followed = market.listener(told, stop, poll_s)
            running = asyncio.create_task(followed.run())
            async with asyncio.timeout(60):
                if news in ("honest", "lying"):
                    while not market.heard(ws_url):
                        # A socket says nothing before something happens.
                        await market.outsider.mine()
                        await asyncio.sleep(0.05)
                await market.outsider.send_ether(address.address, 7)
                while await market.owed(ada) != (7, 0):  # noqa: ASYNC110 (another task moves the books)
                    await asyncio.sleep(0.02)
            stop.set()
            await running
    assert len(await market.desk.deposits()) == 1


@asynccontextmanager
async def socket_that_is(news: str, url: str) -> AsyncIterator[str]:
    """The address of a socket that tells of heads, or does not."""
    if news == "honest":
        yield url.replace("http", "ws")
        return

    async def speak(socket: ServerConnection) -> None:
        await socket.recv()
        while news == "lying":
            await socket.send("no JSON")
            head = {"number": "0x7fffffff", "hash": "0x" + "66" * 32}
            told = {"jsonrpc": "2.0", "method": "eth_subscription", "params": {"result": head}}
            await socket.send(json.dumps(told))
            await asyncio.sleep(0.005)
        await socket.wait_closed()

    async with serve(speak, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        if news == "dead":
            server.close()
        yield f"ws://127.0.0.1:{port}"


async def step_until(loop: Loop, reached: Callable[[], bool]) -> None:
    """Step, as `run` does, until something has come about and there is nothing new: who is away is waited for."""
    async with asyncio.timeout(60):
        while True:
            try:
                moved = await loop.step()
            except Unavailable:
                moved = True
            if reached() and not moved:
                return
            await asyncio.sleep(0.02)
