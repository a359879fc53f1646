"""What every source of an EVM chain's blocks must do alike, on one real anvil. A new source adds itself to `SOURCES`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest

from custody.chains.errors import WrongNetwork
from custody.chains.evm.address import checksum
from custody.chains.jsonrpc import JsonRpc
from custody.kernel.clock import SystemClock
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from ingestion import failover
from ingestion.evm.providers import EvmProviders
from ingestion.evm.receipts import too_many
from ingestion.evm.sources import Means, RpcBlocks
from ingestion.metrics import Metrics
from ingestion.model import BlockFacts, BlockRef
from ingestion.ports import ChainSource, Vouching
from tests.fakes.evm_provider import EvmProvider, run_evm_provider
from tests.integration.anvil_node import run_anvil
from tests.integration.evm_stage import CHAIN

HEIGHT = 24
"""The newest block; a fetch gives twenty."""

pytestmark = pytest.mark.stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """One chain with history, two providers of it, and who is ours."""

    providers: list[EvmProvider]
    ours: str
    facts: list[BlockFacts]
    """From genesis on, by a source without anything between it and the node."""

    async def watch(self, accounts: frozenset[str]) -> frozenset[str]:
        return accounts & {self.ours}

    async def accounts(self, _most: int) -> frozenset[str]:
        return frozenset({self.ours})

    def blocks(self, number: int, chain_id: int, **means: int) -> RpcBlocks:
        return RpcBlocks(
            CHAIN,
            JsonRpc(self.providers[number].url),
            chain_id,
            self.watch,
            accounts=self.accounts if means else too_many,
            means=Means(tags=frozenset({"safe"}), **means),
        )


def alone(stand: Stand, chain_id: int) -> ChainSource:
    return stand.blocks(0, chain_id)


def one_by_one(stand: Stand, chain_id: int) -> ChainSource:
    for each in stand.providers:
        each.lack("eth_getBlockReceipts")
    return stand.blocks(0, chain_id)


def by_windows(stand: Stand, chain_id: int) -> ChainSource:
    for each in stand.providers:
        each.lack("eth_getBlockReceipts")
    return stand.blocks(0, chain_id, sample_every=3)


def several(stand: Stand, chain_id: int) -> ChainSource:
    terms = failover.Terms(timeout_s=20, lag_max=5, agreement_required=False)
    named = [(each.name, stand.blocks(number, chain_id)) for number, each in enumerate(stand.providers)]
    return EvmProviders(named, terms, Metrics(CHAIN, SystemClock()))


def the_first_away(stand: Stand, chain_id: int) -> ChainSource:
    stand.providers[0].go_away()
    return several(stand, chain_id)


def the_first_lies(stand: Stand, chain_id: int) -> ChainSource:
    stand.providers[0].lie(
        "eth_getBlockReceipts", lambda _params, true: [{**each, "logs": []} for each in true]
    )
    return several(stand, chain_id)


Build = Callable[[Stand, int], ChainSource]
SOURCES: dict[str, Build] = {
    "rpc": alone,
    "receipts one by one": one_by_one,
    "log windows": by_windows,
    "providers": several,
    "providers, the first away": the_first_away,
    "providers, the first lies": the_first_lies,
}


@pytest.fixture(scope="module")
async def stand() -> AsyncIterator[Stand]:
    """Every other block pays us, in ether or in tokens; nothing more is mined."""
    async with AsyncExitStack() as open_now:
        url = await open_now.enter_async_context(run_anvil())
        outsider = await open_now.enter_async_context(Outsider(url))
        providers = [await open_now.enter_async_context(run_evm_provider(url)) for _ in range(2)]
        ours = checksum("0x" + "5a" * 20)
        token = await outsider.deploy_token()
        for number in range(HEIGHT - 1):
            if number % 3 == 0:
                await outsider.send_ether(ours, 7)
            elif number % 3 == 1:
                await outsider.mint(token, ours, 5)
            else:
                await outsider.mint(token, await outsider.address(), 5)
        made = Stand(providers=providers, ours=ours, facts=[])
        first = made.blocks(0, CHAIN_ID)
        made.facts.extend([*await first.fetch(0, 19), *await first.fetch(20, HEIGHT)])
        await first.aclose()
        yield made


@pytest.fixture(params=list(SOURCES))
async def source(request: pytest.FixtureRequest, stand: Stand) -> AsyncIterator[ChainSource]:
    """The source under test."""
    made = SOURCES[request.param](stand, CHAIN_ID)
    yield made
    await made.aclose()
    for each in stand.providers:
        each.be_honest()


async def test_it_follows_the_network_that_it_was_given(source: ChainSource, stand: Stand) -> None:
    await source.verify_network()
    head = await source.head()
    assert (head.height, head.hash) == (HEIGHT, stand.facts[-1].ref.hash)
    assert (source.chain, source.reorganises, await source.oldest()) == (CHAIN, True, 0)


@pytest.mark.parametrize("name", list(SOURCES))
async def test_another_network_is_refused(stand: Stand, name: str) -> None:
    source = SOURCES[name](stand, 5)
    with pytest.raises(WrongNetwork):
        await source.verify_network()
    await source.aclose()
    for each in stand.providers:
        each.be_honest()


@pytest.mark.parametrize(("first", "last"), [(0, HEIGHT), (0, 0), (5, 9), (19, 21), (HEIGHT, HEIGHT)])
async def test_any_range_may_be_asked_for_and_asked_for_again(
    source: ChainSource, stand: Stand, first: int, last: int
) -> None:
    await source.head()
    for _ in range(2):
        got: list[BlockFacts] = []
        while len(got) < last - first + 1:
            part = await source.fetch(first + len(got), min(last, first + len(got) + source.batch_max - 1))
            assert 0 < len(part) <= source.batch_max
            got += part
        assert got == stand.facts[first : last + 1]
    assert sum(len(each.movements) for each in stand.facts) == 16


async def test_what_is_not_mined_yet_may_be_asked_for_again(source: ChainSource) -> None:
    await source.head()
    assert await source.fetch(HEIGHT + 9, HEIGHT + 9) == []


async def test_hashes_are_those_of_the_network(source: ChainSource, stand: Stand) -> None:
    await source.head()
    expected = {height: stand.facts[height].ref.hash for height in (24, 20, 0)}
    assert await source.hashes([24, 20, 0, 99]) == expected


async def test_a_tag_is_vouched_for_only_where_our_newest_block_is(stand: Stand) -> None:
    source = several(stand, CHAIN_ID)
    assert isinstance(source, Vouching)
    tip = stand.facts[-1].ref
    found = await source.tagged("safe", tip)
    assert found is not None
    assert found.hash == stand.facts[found.height].ref.hash
    other = BlockRef(height=tip.height, hash="0x" + "77" * 32, parent_hash="", closed_at=tip.closed_at)
    assert await source.tagged("safe", other) is None
    names = frozenset(each.name for each in stand.providers)
    assert await source.witnesses({tip.hash: tip.height, other.hash: 3}) == {
        tip.hash: names,
        other.hash: frozenset(),
    }
    await source.aclose()
