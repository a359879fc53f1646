"""What every source of a Stellar network's ledgers must do alike, on one network. A new source adds itself to `SOURCES`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from custody.chains.errors import WrongNetwork
from custody.chains.jsonrpc import JsonRpc
from custody.kernel.errors import Unavailable
from custody.settings import LakeSettings
from devnet.stellar.lake import LakeWriter
from devnet.stellar.server import Served, serve_in_thread
from ingestion import failover
from ingestion.ports import ChainSource
from ingestion.stellar import history
from ingestion.stellar.horizon import HorizonLedgers
from ingestion.stellar.lake import LakeLedgers
from ingestion.stellar.lake_layout import Layout
from ingestion.stellar.read import LedgerReader
from ingestion.stellar.sources import RpcLedgers
from tests.fakes.ledger_network import CHAIN, open_metrics, open_network, open_reader, read_all
from tests.fakes.ledger_provider import LedgerProvider, metas_of, run_provider
from tests.fakes.s3_shelf import serve_bucket

HEIGHT = 31
"""The newest ledger. Batches of eight end there, and RPC of the `history` source keeps the newest twelve."""
FAR = 10_000


class Stand:
    """One network, and everything that a source of it may need."""

    def __init__(
        self, served: Served, providers: list[LedgerProvider], folder: Path, shelf: Path, bucket: str
    ) -> None:
        self.network = served.network
        self.url = served.url
        self.providers = providers
        self.folder = folder
        self.shelf = shelf
        self.bucket = bucket

    def rpc(self, reader: LedgerReader, number: int = 0) -> RpcLedgers:
        return RpcLedgers(JsonRpc(self.providers[number].url), reader)

    def lake(self, reader: LedgerReader, layout: Layout, suffix: str = ".xdr.zst") -> LakeLedgers:
        folder = self.folder / f"lake-{layout.ledgers_per_batch}-{layout.batches_per_partition}{suffix}"
        LakeWriter(folder, self.network.passphrase, layout, suffix=suffix).write(metas_of(self.network), 2)
        return LakeLedgers(LakeSettings(url=folder.as_uri()), reader)


def per_ledger(stand: Stand, reader: LedgerReader) -> ChainSource:
    return stand.lake(reader, Layout(ledgers_per_batch=1, batches_per_partition=10))


def per_eight(stand: Stand, reader: LedgerReader) -> ChainSource:
    return stand.lake(reader, Layout(ledgers_per_batch=8, batches_per_partition=2))


def flat_and_old(stand: Stand, reader: LedgerReader) -> ChainSource:
    return stand.lake(reader, Layout(ledgers_per_batch=1, batches_per_partition=1), ".xdr.zstd")


def bucket(stand: Stand, reader: LedgerReader) -> ChainSource:
    layout = Layout(ledgers_per_batch=1, batches_per_partition=10)
    writer = LakeWriter(stand.shelf / "v1" / "ledgers", stand.network.passphrase, layout)
    writer.write(metas_of(stand.network), 2)
    settings = LakeSettings(
        url="s3://bucket/v1/ledgers", endpoint=stand.bucket, region="us-east-2", anonymous=True
    )
    return LakeLedgers(settings, reader)


def several(stand: Stand, reader: LedgerReader, *, agreement: bool = True) -> failover.Failover:
    terms = failover.Terms(timeout_s=20, lag_max=5, agreement_required=agreement)
    named = [(each.name, stand.rpc(reader, number)) for number, each in enumerate(stand.providers)]
    return failover.Failover(named, terms, open_metrics())


def lake_then_rpc(stand: Stand, reader: LedgerReader) -> ChainSource:
    terms = history.Terms(behind_ledgers=FAR, alarm_percent=25)
    lake = stand.lake(reader, Layout(ledgers_per_batch=8, batches_per_partition=2))
    stand.network.order_faults({"keep_ledgers": 12})
    return history.HistoryThenTip(several(stand, reader), [stand.rpc(reader)], lake, terms, open_metrics())


Build = Callable[[Stand, LedgerReader], ChainSource]
SOURCES: dict[str, Build] = {
    "rpc": lambda stand, reader: stand.rpc(reader),
    "lake of ledgers": per_ledger,
    "lake of batches": per_eight,
    "flat lake, old suffix": flat_and_old,
    "lake in s3": bucket,
    "providers": several,
    "lake then rpc": lake_then_rpc,
    "horizon": lambda stand, reader: HorizonLedgers(f"{stand.url}/horizon", reader, timeout_s=20),
}


@pytest.fixture(scope="module")
def stocked() -> Iterator[Served]:
    """A network with history; nothing more closes."""
    with serve_in_thread(open_network(HEIGHT)) as running:
        yield running


@pytest.fixture
async def stand(stocked: Served, tmp_path: Path) -> AsyncIterator[Stand]:
    """Two providers of it, and room for a lake."""
    async with AsyncExitStack() as open_now:
        providers = [await open_now.enter_async_context(run_provider(stocked.network)) for _ in range(2)]
        shelf = tmp_path / "shelf"
        shelf.mkdir()
        bucket_url = open_now.enter_context(serve_bucket(shelf))
        yield Stand(stocked, providers, tmp_path, shelf, bucket_url)
    stocked.network.order_faults({"clear": True})


@pytest.fixture(params=list(SOURCES))
def build(request: pytest.FixtureRequest) -> Build:
    """How the source under test is made."""
    return SOURCES[request.param]


@pytest.fixture
async def source(stand: Stand, build: Build) -> AsyncIterator[ChainSource]:
    """The source under test."""
    made = build(stand, open_reader(stand.network))
    yield made
    await made.aclose()


async def test_it_follows_the_network_that_it_was_given(source: ChainSource, stand: Stand) -> None:
    await source.verify_network()
    head = await source.head()
    assert (head.height, head.hash) == (HEIGHT, stand.network.latest.hash.hex())
    assert (source.chain, source.reorganises) == (CHAIN, False)
    assert await source.oldest() == 2


async def test_another_network_is_refused(stand: Stand, build: Build) -> None:
    source = build(stand, open_reader(stand.network, passphrase="Somewhere else"))
    with pytest.raises(WrongNetwork):
        await source.verify_network()
    await source.aclose()


async def test_ledgers_come_in_order_without_a_gap_and_say_what_the_network_says(
    source: ChainSource, stand: Stand
) -> None:
    await source.head()
    got = []
    while len(got) < HEIGHT - 1:
        first = 2 + len(got)
        part = await source.fetch(first, min(HEIGHT, first + source.batch_max - 1))
        assert 0 < len(part) <= source.batch_max
        got += part
    assert got == await read_all(stand.network, 2, HEIGHT)
    assert sum(len(each.movements) for each in got) > 5


@pytest.mark.parametrize(("first", "last"), [(2, 2), (7, 9), (15, 16), (23, 24), (19, 20), (31, 31), (5, 8)])
async def test_any_range_may_be_asked_for_and_asked_for_again(
    source: ChainSource, stand: Stand, first: int, last: int
) -> None:
    await source.head()
    expected = await read_all(stand.network, first, last)
    assert await source.fetch(first, last) == expected
    assert await source.fetch(first, last) == expected


async def test_what_is_not_closed_yet_may_be_asked_for_again(source: ChainSource) -> None:
    await source.head()
    with pytest.raises(Unavailable):
        await source.fetch(HEIGHT + 9, HEIGHT + 9)


async def test_hashes_are_those_of_the_network(source: ChainSource, stand: Stand) -> None:
    await source.head()
    heights = [31, 20, 21, 25]
    assert await source.hashes(heights) == {
        height: stand.network.ledgers(height, 1)[0].hash.hex() for height in heights
    }
