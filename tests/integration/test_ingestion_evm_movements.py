"""Money that contracts move, through the worker's loop on a real anvil: the ledger equals the chain in every way of reading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from custody.chains.evm.address import checksum
from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.kernel.assetid import AssetId
from custody.kernel.ids import TenantId, WalletId
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from ingestion.errors import StateUnavailable
from ingestion.evm.errors import NodeCannotTrace
from ingestion.evm.normalize import INNER_ORDINAL
from ingestion.evm.sources import Means, RpcBlocks
from ingestion.evm.worker import build_source
from ingestion.loop import Loop
from ingestion.model import BlockFacts
from tests.fakes.contracts import deploy, invoke
from tests.fakes.key_maker import FakeKeyMaker
from tests.fakes.rpc_node import run_node
from tests.integration.evm_stage import CHAIN, ETH, evm_settings, node, outsider
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, take_fence

__all__ = ["node", "outsider"]

CONFIRMATIONS = 2
WAYS = ("balances", "debug", "trace")

pytestmark = pytest.mark.stack


@pytest.fixture
async def desk(database: Database, tenant: TenantId) -> Desk:
    """A tenant that lists ether."""
    made = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await made.list_asset(ETH, "ETH", 18)
    await made.open_omnibus()
    return made


async def start(desk: Desk, node: str, **settings: Any) -> tuple[Loop, RpcBlocks]:
    source = build_source(
        evm_settings(node, confirmations=CONFIRMATIONS, **settings),
        desk.db,
    )
    await source.verify_network()
    return build_loop(desk.db, source, await take_fence(desk.db, CHAIN), confirmations=CONFIRMATIONS), source


async def customers(desk: Desk) -> Mapping[str, tuple[WalletId, str]]:
    found = {}
    for name in ("ada", "ben"):
        wallet = await desk.open_wallet(name)
        found[name] = (wallet, (await desk.issue_address(wallet)).address)
    return found


async def settle(loop: Loop, outsider: Outsider) -> None:
    await outsider.mine(CONFIRMATIONS)
    await catch_up(loop)


@pytest.mark.parametrize("way", WAYS)
async def test_ether_sent_inside_calls_is_credited_and_undone_payments_are_not(
    desk: Desk, node: str, outsider: Outsider, way: str
) -> None:
    loop, source = await start(desk, node, inner_value=way)
    people = await customers(desk)
    (ada, at_ada), (ben, at_ben) = people["ada"], people["ben"]
    payer = await deploy(outsider, "Payer", value=1_000)
    await invoke(outsider, payer, "split(address[])", [at_ada, at_ben], value=600)
    await invoke(outsider, payer, "split(address[])", [at_ada, at_ada], value=80)
    await invoke(outsider, payer, "tryToPay(address,uint256)", at_ben, 7)
    await outsider.send_ether(at_ben, 5)
    await invoke(outsider, payer, "destroy(address)", at_ben)
    await settle(loop, outsider)
    owed = (await desk.owed(ada, ETH), await desk.owed(ben, ETH))
    assert owed == (await outsider.balance(at_ada), await outsider.balance(at_ben)) == (380, 1_305)
    await source.aclose()


@pytest.mark.parametrize("way", WAYS)
async def test_a_payment_that_names_its_receiver_nowhere_is_seen_by_traces_alone(
    desk: Desk, node: str, outsider: Outsider, way: str
) -> None:
    """The limit of balances, as docs/evm-blocks.md says it: who is named nowhere in a block is not asked about. The survey is."""
    loop, source = await start(desk, node, inner_value=way)
    ada, at_ada = (await customers(desk))["ada"]
    payer = await deploy(outsider, "Payer", value=1_000)
    await invoke(outsider, payer, "name(address)", at_ada)
    await invoke(outsider, payer, "pay(uint256)", 30)
    await settle(loop, outsider)
    assert await outsider.balance(at_ada) == 30
    assert await desk.owed(ada, ETH) == (0 if way == "balances" else 30)
    await source.aclose()


@pytest.mark.parametrize("way", WAYS)
async def test_tips_of_a_block_are_money_that_arrived(
    desk: Desk, node: str, outsider: Outsider, way: str
) -> None:
    loop, source = await start(desk, node, inner_value=way)
    ada, at_ada = (await customers(desk))["ada"]
    await outsider.call("anvil_setCoinbase", at_ada)
    await outsider.send_ether("0x" + "12" * 20, 5)
    await outsider.send_ether(at_ada, 9)
    await outsider.call("anvil_setCoinbase", "0x" + "00" * 20)
    await settle(loop, outsider)
    assert await desk.owed(ada, ETH) == await outsider.balance(at_ada) > 9
    found = [each.transfer for each in await desk.deposits()]
    places = [each.tx_hash for each in found if not each.source]
    assert places == [f"balance:{each.block_hash}:{at_ada}" for each in found if not each.source]
    assert len(places) == 2
    await source.aclose()


@pytest.mark.parametrize("way", WAYS)
async def test_a_reorganisation_takes_back_what_a_call_sent_and_credits_it_once_when_it_returns(
    desk: Desk, node: str, outsider: Outsider, way: str
) -> None:
    loop, source = await start(desk, node, inner_value=way)
    ada, at_ada = (await customers(desk))["ada"]
    payer = await deploy(outsider, "Payer")
    await catch_up(loop)
    snapshot = await outsider.call("evm_snapshot")
    lost = await invoke(outsider, payer, "split(address[])", [at_ada], value=60)
    raw = await outsider.call("eth_getRawTransactionByHash", lost.tx_hash)
    await catch_up(loop)
    assert [each.state for each in await desk.deposits()] == ["observed"]
    await outsider.call("evm_revert", snapshot)
    await outsider.mine(3)
    await catch_up(loop)
    assert [each.state for each in await desk.deposits()] == ["orphaned"]
    await outsider.call("eth_sendRawTransaction", raw)
    await settle(loop, outsider)
    assert await desk.owed(ada, ETH) == await outsider.balance(at_ada) == 60
    states = [each.state for each in await desk.deposits()]
    # Known by its transaction it is the same deposit; known by its block it is another one.
    assert states == (["orphaned", "credited"] if way == "balances" else ["credited"])
    await source.aclose()


async def test_both_tracers_tell_the_same(node: str, outsider: Outsider) -> None:
    payer = await deploy(outsider, "Payer", value=1_000)
    one, two = (checksum("0x" + each * 20) for each in ("a1", "b2"))
    mined = await invoke(outsider, payer, "split(address[])", [one, two], value=600)
    last = await invoke(outsider, payer, "destroy(address)", two)
    told = [await facts_of(node, mined.height, last.height, {one, two}, way) for way in ("debug", "trace")]
    assert told[0] == told[1]
    movements = [each for facts in told[0] for each in facts.movements]
    assert [(each.account, each.ordinal - INNER_ORDINAL, each.amount) for each in movements] == [
        (one, 0, 300),
        (two, 1, 300),
        (two, 0, 1_000),
    ]
    assert {each.source for each in movements} == {payer}


async def test_traces_begin_at_the_height_that_is_configured(node: str, outsider: Outsider) -> None:
    payer = await deploy(outsider, "Payer")
    one = checksum("0x" + "a1" * 20)
    first = await invoke(outsider, payer, "split(address[])", [one], value=6)
    second = await invoke(outsider, payer, "split(address[])", [one], value=8)
    facts = await facts_of(node, first.height, second.height, {one}, "debug", since=second.height)
    assert [[(each.source, each.amount) for each in block.movements] for block in facts] == [
        [("", 6)],
        [(payer, 8)],
    ]


async def test_wrapped_ether_is_made_and_given_back_by_its_own_events(node: str, outsider: Outsider) -> None:
    weth = await deploy(outsider, "WrappedEther")
    me = checksum(await outsider.address())
    first = await invoke(outsider, weth, "deposit()", value=50)
    last = await invoke(outsider, weth, "withdraw(uint256)", 20)
    made, given_back = await facts_of(node, first.height, last.height, {me}, "debug", wrapped=weth)
    asset = AssetId(CHAIN, f"erc20:{weth}")
    assert [(each.source, each.asset, each.amount) for each in made.movements] == [("", asset, 50)]
    assert [(each.asset, each.amount) for each in made.departures] == [(ETH, 50)]
    assert [(each.source, each.asset, each.amount) for each in given_back.movements] == [(weth, ETH, 20)]
    assert [(each.asset, each.amount) for each in given_back.departures] == [(asset, 20)]
    assert (made.notices, given_back.notices) == ((), ())


async def test_a_creation_with_value_leaves_its_sender(node: str, outsider: Outsider) -> None:
    me = checksum(await outsider.address())
    await deploy(outsider, "Payer", value=77)
    (facts,) = await facts_of(node, 1, 1, {me}, "balances")
    assert [(each.account, each.amount) for each in facts.departures] == [(me, 77)]
    assert facts.notices == ()


async def test_a_node_that_cannot_trace_is_refused_at_the_start() -> None:
    async with run_node() as node:
        node.result("eth_chainId", hex(CHAIN_ID))
        node.result("eth_getBlockByNumber", {"number": "0x1", "hash": "0x" + "11" * 32})
        node.error("debug_traceBlockByHash", "the method does not exist", -32601)
        source = RpcBlocks(CHAIN, JsonRpc(node.url), CHAIN_ID, nobody, means=Means(inner_value="debug"))
        with pytest.raises(NodeCannotTrace):
            await source.verify_network()
        await source.aclose()


async def test_balances_that_the_node_no_longer_has_stop_the_block(node: str, outsider: Outsider) -> None:
    """A block between a node with its blocks and one without its state."""
    one = checksum("0x" + "a1" * 20)
    await outsider.send_ether(one, 5)
    async with run_node() as forgetful:
        for method, params in (
            ("eth_getBlockByNumber", ["0x1", True]),
            ("eth_getBlockReceipts", ["0x1"]),
        ):
            forgetful.result(method, await outsider.call(method, *params))
        forgetful.error("eth_getBalance", "missing trie node")
        with pytest.raises(StateUnavailable):
            await facts_of(forgetful.url, 1, 1, {one}, "balances")


async def nobody(_accounts: frozenset[str]) -> frozenset[str]:
    return frozenset()


async def facts_of(
    url: str, first: int, last: int, ours: set[str], way: str, *, since: int = 0, wrapped: str = ""
) -> list[BlockFacts]:
    """What a source says of blocks when these accounts are ours."""

    async def watch(accounts: frozenset[str]) -> frozenset[str]:
        return accounts & ours

    assert way in WAYS
    means = Means(
        inner_value=way,  # type: ignore[arg-type]
        inner_value_from=since,
        wrapped_native=frozenset({wrapped.lower()} if wrapped else ()),
    )
    source = RpcBlocks(CHAIN, JsonRpc(url), CHAIN_ID, watch, means=means)
    try:
        return await source.fetch(first, last)
    finally:
        await source.aclose()
