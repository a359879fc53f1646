"""A lake's names are SEP-54's, and an object that is not just what its name says is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ingestion.errors import LakeUnusable, UnreadableLedger
from ingestion.stellar.lake_layout import Batch, Layout, is_partition, pack_batch, parse_config, unpack_batch
from ingestion.stellar.scan.ledger import scan_ledger
from tests.fakes.stellar_ledgers import BATCH, UNIFIED, real_ledger

PER_LEDGER = Layout(ledgers_per_batch=1, batches_per_partition=64_000)
CONFIG: dict[str, Any] = {
    "networkPassphrase": "Somewhere",
    "version": "1.0",
    "compression": "zstd",
    "ledgersPerBatch": 64,
    "batchesPerPartition": 10,
}


@pytest.mark.parametrize(
    ("height", "per_batch", "per_partition", "name"),
    [
        (5, 1, 1, "FFFFFFFA--5"),
        (5, 10, 1, "FFFFFFFF--0-9"),
        (10, 100, 2, "FFFFFFFF--0-199/FFFFFFFF--0-99"),
        (150, 50, 2, "FFFFFF9B--100-199/FFFFFF69--150-199"),
        (63_000_123, 1, 64_000, "FC3F0FFF--62976000-63039999/FC3EB1C4--63000123"),
        (53_312_000, 1, 1, "FCD285FF--53312000"),
    ],
)
def test_names_are_those_that_others_write(
    height: int, per_batch: int, per_partition: int, name: str
) -> None:
    layout = Layout(ledgers_per_batch=per_batch, batches_per_partition=per_partition)
    batch = layout.batch_of(height)
    assert layout.name_of(batch) == name
    for suffix in (".xdr.zst", ".xdr.zstd"):
        assert layout.parse_name(name + suffix) == batch
    assert batch.first <= height <= batch.last


@pytest.mark.parametrize(
    "name", [".config.json", "readme.xdr.zst", "fffffffa--5.xdr.zst", "FFFFFFFA--5.xdr.gz"]
)
def test_what_is_no_object_of_ledgers_is_passed_over(name: str) -> None:
    assert Layout(ledgers_per_batch=1, batches_per_partition=1).parse_name(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "FFFFFFFB--5.xdr.zst",  # counts down from another number
        "FFFFFFFF--0-9.xdr.zst",  # holds ten
        "FFFFFFFF--0-63999/FFFFFFFA--5.xdr.zst",  # lies in a partition
        "FFFFFFFA--05.xdr.zst",
    ],
)
def test_an_object_that_the_configuration_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(LakeUnusable):
        Layout(ledgers_per_batch=1, batches_per_partition=1).parse_name(name)


def test_partitions_are_told_from_other_folders() -> None:
    assert is_partition("FC3F0FFF--62976000-63039999/")
    assert not is_partition("FC3F0FFE--62976000-63039999")
    assert not is_partition("backup")


def test_a_configuration_says_what_the_lake_is() -> None:
    layout, passphrase = parse_config(json.dumps(CONFIG).encode())
    assert (layout, passphrase) == (Layout(ledgers_per_batch=64, batches_per_partition=10), "Somewhere")


@pytest.mark.parametrize(
    "wrong",
    [
        {"networkPassphrase": None},
        {"version": "2.0"},
        {"version": 1},
        {"compression": "gzip"},
        {"compression": ""},
        {"ledgersPerBatch": 0},
        {"ledgersPerBatch": True},
        {"ledgersPerBatch": "64"},
        {"batchesPerPartition": -1},
        {"batchesPerPartition": 2**32},
    ],
)
def test_a_configuration_that_we_do_not_know_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(LakeUnusable):
        parse_config(json.dumps(CONFIG | wrong).encode())
    for name in wrong:
        with pytest.raises(LakeUnusable):
            parse_config(json.dumps({key: value for key, value in CONFIG.items() if key != name}).encode())


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_configuration_that_is_none_is_refused(text: bytes) -> None:
    with pytest.raises(LakeUnusable):
        parse_config(text)


def test_the_object_that_galexie_wrote_reads(fixtures: Path) -> None:
    path = fixtures / "stellar" / "pubnet" / f"FCD285FF--{BATCH}.xdr.zstd"
    expected = real_ledger(fixtures, BATCH)
    batch = Layout(ledgers_per_batch=1, batches_per_partition=1).parse_name(path.name)
    assert batch == Batch(first=BATCH, last=BATCH)
    assert unpack_batch(path.read_bytes(), batch, path.name) == [expected]


def test_a_batch_of_several_is_split_where_ledgers_end(fixtures: Path) -> None:
    ledgers = [real_ledger(fixtures, number) for number in UNIFIED]
    batch = Batch(first=7, last=9)
    assert unpack_batch(pack_batch(ledgers, 7), batch, "here") == ledgers


def test_the_first_object_of_a_network_begins_with_its_first_ledger() -> None:
    ledgers = [bytes([number]) for number in range(1)]
    assert unpack_batch(pack_batch(ledgers, 2), Batch(first=2, last=2), "here") == ledgers
    assert Batch(first=0, last=63).oldest == 2


def test_every_shortening_of_an_object_is_refused(fixtures: Path) -> None:
    packed = (fixtures / "stellar" / "pubnet" / f"FCD285FF--{BATCH}.xdr.zstd").read_bytes()
    batch = Batch(first=BATCH, last=BATCH)
    for length in [*range(64), *range(64, len(packed), 997), *range(len(packed) - 8, len(packed))]:
        with pytest.raises(UnreadableLedger):
            unpack_batch(packed[:length], batch, "here")


@pytest.mark.parametrize("tail", [b"\0", b"\x28\xb5\x2f\xfd", b"more"])
def test_nothing_may_follow_an_object(fixtures: Path, tail: bytes) -> None:
    packed = pack_batch([real_ledger(fixtures, UNIFIED[0])], 7)
    for padded in (packed + tail, packed + packed):
        with pytest.raises(UnreadableLedger, match="bytes follow its end"):
            unpack_batch(padded, Batch(first=7, last=7), "here")


def test_nothing_may_follow_the_last_ledger_of_a_batch(fixtures: Path) -> None:
    packed = pack_batch([real_ledger(fixtures, UNIFIED[0]) + b"\0\0\0\0"], 7)
    (ledger,) = unpack_batch(packed, Batch(first=7, last=7), "here")
    with pytest.raises(UnreadableLedger, match="4 bytes follow its end"):
        scan_ledger(ledger)


@pytest.mark.parametrize(
    ("first", "count"), [(6, 1), (8, 1), (7, 2), (7, 0)], ids=["earlier", "later", "longer", "empty"]
)
def test_a_batch_of_other_ledgers_than_its_name_says_is_refused(first: int, count: int) -> None:
    with pytest.raises(UnreadableLedger, match="other ledgers"):
        unpack_batch(pack_batch([b"\0\0\0\0"] * count, first), Batch(first=7, last=7), "here")


def test_a_claimed_count_costs_nothing() -> None:
    head = b"".join(number.to_bytes(4, "big") for number in (0, 2**32 - 1, 2**32 - 1))
    packed = zstandard.ZstdCompressor().compress(head)
    with pytest.raises(UnreadableLedger):
        unpack_batch(packed, Batch(first=0, last=63), "here")


def test_an_object_that_grows_without_end_is_refused_within_its_bound() -> None:
    """A bound of 64 MiB, so that the test does not need the half gigabyte that a real object may have."""
    packer = zstandard.ZstdCompressor(level=19).compressobj()
    packed = b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(256)), packer.flush()])
    assert len(packed) < 32_000
    with pytest.raises(UnreadableLedger, match=f"more than {64 << 20} bytes"):
        unpack_batch(packed, Batch(first=7, last=7), "here", bytes_max=64 << 20)
