"""Several providers of one network: who is away, slow, behind or unreadable is passed over, and no two may disagree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from custody.chains.errors import WrongNetwork
from custody.chains.jsonrpc import JsonRpc
from custody.kernel.errors import Unavailable
from devnet.stellar.network import LocalNetwork
from ingestion.errors import BrokenHashChain, ProvidersDisagree, UnreadableLedger
from ingestion.failover import Failover, Terms
from ingestion.metrics import Metrics
from ingestion.stellar.sources import RpcLedgers
from tests.fakes.ledger_network import (
    CHAIN,
    close_ledgers,
    open_metrics,
    open_network,
    open_reader,
    read_all,
    shown,
)
from tests.fakes.ledger_provider import LedgerProvider, run_provider

HEIGHT = 12


class Pair:
    """Two providers of one network, and the source made of them."""

    def __init__(self, network: LocalNetwork, providers: list[LedgerProvider]) -> None:
        self.network = network
        self.first, self.second = providers
        self.metrics: Metrics = open_metrics()
        self.opened: list[Failover] = []

    def open(self, *, required: bool = False, alone: bool = False, timeout_s: float = 20) -> Failover:
        reader = open_reader(self.network)
        named = [(each.name, RpcLedgers(JsonRpc(each.url), reader)) for each in (self.first, self.second)]
        terms = Terms(timeout_s=timeout_s, lag_max=3, agreement_required=required)
        self.opened.append(Failover(named[:1] if alone else named, terms, self.metrics))
        return self.opened[-1]

    def stands(self, series: str, provider: LedgerProvider) -> float:
        return shown(self.metrics, f'{series}{{chain="{CHAIN}",provider="{provider.name}"}}')

    def figure(self, series: str) -> float:
        return shown(self.metrics, f'{series}{{chain="{CHAIN}"}}')


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A network with history and two providers of it."""
    async with AsyncExitStack() as open_now:
        network = open_network(HEIGHT)
        providers = [await open_now.enter_async_context(run_provider(network)) for _ in range(2)]
        made = Pair(network, providers)
        yield made
        for each in made.opened:
            await each.aclose()


async def test_one_that_goes_away_in_mid_run_is_replaced_and_comes_back(pair: Pair) -> None:
    source = pair.open()
    assert (await source.head()).height == HEIGHT
    got = await source.fetch(2, 4)
    pair.first.go_away()
    got += await source.fetch(5, 8)
    assert (await source.head()).height == HEIGHT
    assert pair.stands("provider_up", pair.first) == 0
    pair.first.come_back()
    pair.second.go_away()
    got += await source.fetch(9, HEIGHT)
    assert got == await read_all(pair.network, 2, HEIGHT)
    assert pair.stands("provider_failures_total", pair.first) >= 1
    assert pair.stands("provider_failures_total", pair.second) == 1


async def test_when_all_are_away_it_says_so_and_goes_on_when_one_is_back(pair: Pair) -> None:
    source = pair.open()
    pair.first.go_away()
    pair.second.go_away()
    for _ in range(3):
        with pytest.raises(Unavailable):
            await source.head()
        with pytest.raises(Unavailable):
            await source.fetch(2, 3)
    pair.first.come_back()
    pair.second.come_back()
    assert (await source.head()).height == HEIGHT
    assert await source.fetch(2, 3) == await read_all(pair.network, 2, 3)


async def test_one_that_is_behind_is_passed_over_until_it_is_near_again(pair: Pair) -> None:
    source = pair.open()
    pair.first.view.behind = 4
    assert (await source.head()).height == HEIGHT
    assert pair.stands("provider_lag_blocks", pair.first) == 4
    asked = len(pair.first.node.asked)
    await source.fetch(2, 3)
    # Only its word on the hash is wanted.
    assert pair.first.node.asked[asked:] == ["getLedgers"]
    pair.first.view.behind = 3
    assert (await source.head()).height == HEIGHT - 3
    assert pair.stands("provider_lag_blocks", pair.first) == 3


async def test_how_late_a_provider_is_is_told_in_seconds(pair: Pair) -> None:
    source = pair.open()
    await source.head()
    pair.first.view.behind = 1
    close_ledgers(pair.network, 1)
    await source.head()
    await source.head()
    assert pair.stands("provider_lag_seconds", pair.first) > 0
    assert pair.stands("provider_lag_seconds", pair.second) == 0


async def test_one_that_is_slow_is_passed_over(pair: Pair) -> None:
    source = pair.open(timeout_s=0.5)
    await source.head()
    pair.first.node.delay_s = 60
    assert await source.fetch(2, 4) == await read_all(pair.network, 2, 4)
    assert (await source.head()).height == HEIGHT
    assert pair.stands("provider_up", pair.first) == 0


async def test_one_that_cannot_be_read_is_passed_over_and_all_together_stop_the_worker(pair: Pair) -> None:
    source = pair.open()
    await source.head()
    pair.first.view.unreadable = True
    assert await source.fetch(2, 4) == await read_all(pair.network, 2, 4)
    assert pair.stands("provider_failures_total", pair.first) == 1
    pair.second.view.unreadable = True
    with pytest.raises(UnreadableLedger):
        await source.fetch(5, 6)
    pair.second.go_away()
    with pytest.raises(Unavailable):
        await source.fetch(5, 6)


async def test_one_that_boasts_of_ledgers_that_it_does_not_give_is_passed_over(pair: Pair) -> None:
    source = pair.open()
    pair.first.claim(2**31)
    assert (await source.head()).height == 2**31
    assert await source.fetch(HEIGHT, HEIGHT + 9) == await read_all(pair.network, HEIGHT, HEIGHT)
    with pytest.raises(Unavailable):
        await source.fetch(HEIGHT + 1, HEIGHT + 9)
    assert (await source.head()).height == HEIGHT


async def test_two_that_name_other_newest_ledgers_stop_the_worker(pair: Pair) -> None:
    source = pair.open()
    pair.second.view.forged_at = HEIGHT
    with pytest.raises(ProvidersDisagree) as caught:
        await source.head()
    assert caught.value.values["height"] == HEIGHT
    assert {caught.value.values["provider"], caught.value.values["other_provider"]} == {
        pair.first.name,
        pair.second.name,
    }
    assert caught.value.values["block"] != caught.value.values["other_block"]


@pytest.mark.parametrize("required", [False, True])
async def test_a_ledger_whose_hash_a_second_provider_denies_is_not_handed_out(
    pair: Pair, required: bool
) -> None:
    source = pair.open(required=required)
    await source.head()
    pair.first.view.forged_at = 6
    with pytest.raises(ProvidersDisagree) as caught:
        await source.fetch(6, 6)
    assert caught.value.values["height"] == 6
    # A ledger below those that are compared is caught as well: the one above it names another parent.
    with pytest.raises(BrokenHashChain):
        await source.fetch(4, 9)


async def test_one_comparison_speaks_for_a_whole_batch(pair: Pair) -> None:
    source = pair.open(required=True)
    await source.head()
    asked = len(pair.second.node.asked)
    assert len(await source.fetch(2, 11)) == 10
    assert pair.second.node.asked[asked:] == ["getLedgers"]
    assert (pair.figure("agreed_height"), pair.figure("unconfirmed_blocks")) == (11, 0)


async def test_what_nobody_confirms_is_only_counted_unless_agreement_is_required(pair: Pair) -> None:
    pair.second.go_away()
    source = pair.open()
    await source.head()
    assert len(await source.fetch(2, 8)) == 7
    assert pair.figure("unconfirmed_blocks") == 7
    strict = pair.open(required=True)
    await strict.head()
    assert await strict.fetch(2, 8) == []
    pair.second.come_back()


async def test_required_agreement_gives_what_the_second_provider_has_and_the_rest_when_it_follows(
    pair: Pair,
) -> None:
    source = pair.open(required=True)
    pair.second.view.behind = 3
    await source.head()
    assert [each.ref.height for each in await source.fetch(8, HEIGHT)] == [8, 9]
    assert await source.fetch(10, HEIGHT) == []
    pair.second.view.behind = 1
    await source.head()
    assert [each.ref.height for each in await source.fetch(10, HEIGHT)] == [10, 11]
    pair.second.view.behind = 0
    await source.head()
    assert [each.ref.height for each in await source.fetch(12, HEIGHT)] == [12]
    assert (pair.figure("agreed_height"), pair.figure("unconfirmed_blocks")) == (HEIGHT, 0)


async def test_one_provider_alone_is_followed_without_any_comparison(pair: Pair) -> None:
    source = pair.open(alone=True)
    await source.head()
    assert await source.fetch(2, 8) == await read_all(pair.network, 2, 8)


async def test_a_provider_of_another_network_stops_the_worker_also_when_it_comes_late(pair: Pair) -> None:
    pair.second.view.passphrase = "Somewhere else"
    with pytest.raises(WrongNetwork):
        await pair.open().verify_network()
    source = pair.open()
    pair.second.go_away()
    await source.verify_network()
    await source.head()
    pair.second.come_back()
    with pytest.raises(WrongNetwork):
        await _hear_for_long(source)


async def test_a_range_may_be_asked_for_without_ever_asking_for_the_newest_ledger(pair: Pair) -> None:
    """As a backfill does: agreement is found all the same, and nobody is read from who has not said which network it serves."""
    assert len(await pair.open(required=True).fetch(2, 8)) == 7
    pair.first.view.passphrase = "Somewhere else"
    with pytest.raises(WrongNetwork):
        await pair.open().fetch(2, 8)


async def _hear_for_long(source: Failover) -> None:
    """Until a provider that rested is asked again."""
    async with asyncio.timeout(30):
        while True:
            await source.head()
            await asyncio.sleep(0.05)
