"""A lake that is not what it says is refused by name, and what is fetched ahead stays within its bounds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from custody.chains.errors import WrongNetwork
from custody.kernel.assetid import ChainId
from custody.settings import LakeSettings
from devnet.stellar.lake import LakeWriter
from devnet.stellar.network import LocalNetwork
from ingestion.errors import (
    BrokenHashChain,
    LakeBehind,
    LakeGap,
    LakeUnreachable,
    LakeUnusable,
    UnreadableLedger,
)
from ingestion.stellar.lake import AHEAD_MAX_BYTES, OBJECT_MAX_BYTES, Ahead, LakeLedgers
from ingestion.stellar.lake_layout import Batch, Layout, pack_batch
from ingestion.stellar.movements import EventReader
from ingestion.stellar.read import LedgerReader
from tests.fakes.ledger_network import open_network, open_reader, read_all
from tests.fakes.ledger_provider import metas_of
from tests.fakes.stellar_ledgers import BATCH, PASSPHRASE

LAYOUT = Layout(ledgers_per_batch=4, batches_per_partition=2)
HEIGHT = 19


class Shore:
    """A network, its lake, and the writer's hand in it."""

    def __init__(self, network: LocalNetwork, folder: Path) -> None:
        self.network = network
        self.folder = folder
        self.writer = LakeWriter(folder, network.passphrase, LAYOUT)
        self.metas = metas_of(network)
        self.writer.write(self.metas, 2)
        self.opened: list[LakeLedgers] = []

    def open(self, **settings: Any) -> LakeLedgers:
        self.opened.append(
            LakeLedgers(LakeSettings(url=self.folder.as_uri(), **settings), open_reader(self.network))
        )
        return self.opened[-1]

    def object_of(self, height: int) -> Path:
        return self.writer.path_of(height)


@pytest.fixture
async def shore(tmp_path: Path) -> AsyncIterator[Shore]:
    """A lake of four ledgers an object, two objects a partition."""
    made = Shore(open_network(HEIGHT), tmp_path / "lake")
    yield made
    for each in made.opened:
        await each.aclose()


async def test_real_ledgers_of_galexie_are_read_and_proved(fixtures: Path, tmp_path: Path) -> None:
    name = f"FCD285FF--{BATCH}.xdr.zstd"
    LakeWriter(tmp_path, PASSPHRASE, Layout(ledgers_per_batch=1, batches_per_partition=1))
    (tmp_path / name).write_bytes((fixtures / "stellar" / "pubnet" / name).read_bytes())

    async def everybody(named: frozenset[str]) -> frozenset[str]:
        return named

    reader = LedgerReader(ChainId("stellar:pubnet"), EventReader(PASSPHRASE), everybody, audit=True)
    lake = LakeLedgers(LakeSettings(url=tmp_path.as_uri()), reader)
    await lake.verify_network()
    assert ((await lake.head()).height, await lake.oldest()) == (BATCH, BATCH)
    (facts,) = await lake.fetch(BATCH, BATCH)
    assert (facts.ref.height, facts.discrepancies) == (BATCH, ())
    assert len(facts.transactions) >= 163
    await lake.aclose()


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"networkPassphrase": "Somewhere else"}, WrongNetwork),
        ({"compression": "gzip"}, LakeUnusable),
        ({"version": "7"}, LakeUnusable),
        ({"ledgersPerBatch": 0}, LakeUnusable),
    ],
    ids=["network", "compression", "version", "batches"],
)
async def test_a_lake_of_another_kind_is_refused_before_a_ledger_is_read(
    shore: Shore, change: dict[str, Any], refusal: type[Exception]
) -> None:
    config = shore.folder / ".config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    for call in (shore.open().verify_network(), shore.open().fetch(2, 3), shore.open().head()):
        with pytest.raises(refusal):
            await call


async def test_a_lake_without_a_description_or_a_folder_is_named(shore: Shore, tmp_path: Path) -> None:
    (shore.folder / ".config.json").unlink()
    with pytest.raises(LakeUnusable, match="is missing"):
        await shore.open().fetch(2, 3)
    absent = LakeLedgers(LakeSettings(url=(tmp_path / "absent").as_uri()), open_reader(shore.network))
    with pytest.raises(LakeUnreachable):
        await absent.verify_network()


async def test_a_store_that_is_away_is_waited_for(shore: Shore) -> None:
    settings = LakeSettings(
        url="s3://ledgers/devnet", endpoint="http://127.0.0.1:1", region="us-east-2", anonymous=True
    )
    lake = LakeLedgers(settings, open_reader(shore.network))
    with pytest.raises(LakeUnreachable):
        await lake.verify_network()


async def test_a_hole_is_no_end(shore: Shore) -> None:
    shore.object_of(9).unlink()
    lake = shore.open()
    assert len(await lake.fetch(4, 7)) == 4
    with pytest.raises(LakeGap, match="8-11") as caught:
        await lake.fetch(8, 10)
    assert caught.value.values["newest"] == HEIGHT
    with pytest.raises(LakeGap):
        await lake.fetch(7, 12)
    assert len(await lake.fetch(12, 15)) == 4


async def test_the_end_is_waited_for_and_grows(shore: Shore) -> None:
    shore.object_of(HEIGHT).unlink()
    lake = shore.open()
    assert [each.ref.height for each in await lake.fetch(14, 19)] == [14, 15]
    with pytest.raises(LakeBehind):
        await lake.fetch(16, 19)
    shore.writer.write(shore.metas, 2)
    assert await lake.fetch(16, 19) == await read_all(shore.network, 16, 19)


def _truncate(shore: Shore, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _other_range(shore: Shore, path: Path) -> None:
    path.write_bytes(shore.object_of(4).read_bytes())


def _other_ledgers(shore: Shore, path: Path) -> None:
    path.write_bytes(pack_batch(shore.metas[2:6], 8))


def _short(shore: Shore, path: Path) -> None:
    path.write_bytes(pack_batch(shore.metas[6:9], 8))


def _trailing(shore: Shore, path: Path) -> None:
    held = shore.metas[6:10]
    path.write_bytes(pack_batch([*held[:3], held[3] + b"\0\0\0\0"], 8))


def _no_zstd(shore: Shore, path: Path) -> None:
    path.write_bytes(b"<Error><Code>AccessDenied</Code></Error>")


@pytest.mark.parametrize(
    "harm",
    [_truncate, _other_range, _other_ledgers, _short, _trailing, _no_zstd],
    ids=lambda harm: harm.__name__,
)
async def test_an_object_that_is_not_what_its_name_says_is_refused(shore: Shore, harm: Any) -> None:
    harm(shore, shore.object_of(8))
    lake = shore.open()
    with pytest.raises(UnreadableLedger):
        await lake.fetch(8, 11)
    # Nothing else suffers.
    assert await lake.fetch(4, 7) == await read_all(shore.network, 4, 7)
    shore.writer.write(shore.metas, 2)
    assert await shore.open().fetch(8, 11) == await read_all(shore.network, 8, 11)


async def test_a_ledger_that_was_altered_is_no_ledger(shore: Shore) -> None:
    held = bytearray(b"".join(shore.metas[6:7]))
    header = held.index(shore.network.ledgers(7, 1)[0].hash)
    held[header] ^= 1
    shore.object_of(8).write_bytes(pack_batch([bytes(held), *shore.metas[7:10]], 8))
    with pytest.raises(BrokenHashChain):
        await shore.open().fetch(8, 8)


async def test_an_object_beyond_the_layout_is_refused(shore: Shore) -> None:
    (shore.object_of(16).parent / "FFFFFFEE--17.xdr.zst").write_bytes(b"")
    with pytest.raises(LakeUnusable, match="does not fit"):
        await shore.open().head()


@pytest.mark.parametrize("ahead", [0, 1, 3, 64])
async def test_what_is_fetched_ahead_changes_nothing_of_what_is_read(shore: Shore, ahead: int) -> None:
    lake = shore.open(ahead_objects=ahead)
    got = []
    for height in range(2, HEIGHT + 1):
        got += await lake.fetch(height, height)
    assert got == await read_all(shore.network, 2, HEIGHT)


class Tap:
    """Objects of a weight, given when the test says so."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.open = asyncio.Event()
        self.asked: list[int] = []
        self.given: list[int] = []

    async def download(self, batch: Batch, admit: Any) -> bytes | None:
        self.asked.append(batch.first)
        await self.open.wait()
        if not admit(self.size):
            return None
        self.given.append(batch.first)
        return b"%d" % batch.first


async def test_the_next_objects_are_on_their_way_while_one_is_read() -> None:
    tap = Tap(1)
    ahead = Ahead(tap.download, 3)
    taking = asyncio.create_task(ahead.take(Batch(first=0, last=0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(tap.asked) == [0, 1, 2, 3]
    tap.open.set()
    assert await taking == b"0"
    assert await ahead.take(Batch(first=1, last=1)) == b"1"
    assert tap.asked.count(1) == 1
    await ahead.aclose()


async def test_objects_ahead_are_held_only_while_there_is_room() -> None:
    tap = Tap(AHEAD_MAX_BYTES // 2)
    tap.open.set()
    ahead = Ahead(tap.download, 8)
    assert await ahead.take(Batch(first=0, last=0)) == b"0"
    for _ in range(5):
        await asyncio.sleep(0)
    assert tap.given == [0, 1, 2]
    # What was not admitted then is fetched when it is needed.
    for number in range(1, 9):
        assert await ahead.take(Batch(first=number, last=number)) == b"%d" % number
    await ahead.aclose()


async def test_an_object_that_weighs_too_much_is_not_read() -> None:
    tap = Tap(OBJECT_MAX_BYTES + 1)
    tap.open.set()
    ahead = Ahead(tap.download, 2)
    with pytest.raises(UnreadableLedger, match="weighs"):
        await ahead.take(Batch(first=0, last=0))
    assert tap.given == []
    await ahead.aclose()


async def test_nothing_is_fetched_after_the_end() -> None:
    tap = Tap(1)
    ahead = Ahead(tap.download, 3)
    taking = asyncio.create_task(ahead.take(Batch(first=0, last=0)))
    await asyncio.sleep(0)
    await ahead.aclose()
    tap.open.set()
    assert await taking == b"0"
    assert tap.given == [0]
