"""How a lake names its objects and what one holds. Pure.

A lake is a folder of objects, each a compressed LedgerCloseMetaBatch. Names count down, so that the newest come first in a
listing. Nothing vouches for an object but what it holds: its range is compared with its name here, its ledgers prove
themselves where they are scanned. Source: SEP-54 0.2.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import orjson
import zstandard

from ingestion.errors import LakeUnusable, UnreadableLedger
from ingestion.stellar.scan.ledger import walker
from ingestion.stellar.scan.walk import DEPTH_MAX

CONFIG_NAME = ".config.json"
"""The object that describes the lake."""
SUFFIXES = (".xdr.zst", ".xdr.zstd")
"""How objects end, and how they ended before SEP-54."""
FIRST_LEDGER = 2
"""The first ledger that has a LedgerCloseMeta; 1 is the genesis."""
HEIGHT_MAX = 0xFFFFFFFF
"""A ledger's number is a uint32."""
BATCH_MAX_BYTES = 512 * 1024 * 1024
"""What an object may hold, decompressed. Today's ledgers have about a megabyte; 64 of them lie in an object at most."""

_SLICE = 1024
"""So many compressed bytes are taken at once: four of them can stand for 128 KiB (RFC 8878, RLE blocks), so 32 MiB together."""
_HEAD = struct.Struct(">III")
_OBJECT = re.compile(r"([0-9A-F]{8})--(\d{1,10})(?:-(\d{1,10}))?\.xdr\.zstd?")
_PARTITION = re.compile(r"([0-9A-F]{8})--(\d{1,10})-(\d{1,10})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The ledgers of one object, by its name."""

    first: int
    last: int

    @property
    def oldest(self) -> int:
        """The first of them that there is."""
        return max(self.first, FIRST_LEDGER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a lake's configuration says of its objects."""

    ledgers_per_batch: int
    batches_per_partition: int

    def batch_of(self, height: int) -> Batch:
        """The object that holds a ledger."""
        first = height // self.ledgers_per_batch * self.ledgers_per_batch
        return Batch(first=first, last=first + self.ledgers_per_batch - 1)

    def folder_of(self, batch: Batch) -> str:
        """The partition of an object with a slash at its end; empty where partitions hold one object."""
        if self.batches_per_partition == 1:
            return ""
        size = self.ledgers_per_batch * self.batches_per_partition
        first = batch.first // size * size
        return f"{_countdown(first)}--{first}-{first + size - 1}/"

    def name_of(self, batch: Batch) -> str:
        """The path of an object within the lake, without its suffix."""
        name = f"{_countdown(batch.first)}--{batch.first}"
        return self.folder_of(batch) + (name if batch.first == batch.last else f"{name}-{batch.last}")

    def parse_name(self, path: str) -> Batch | None:
        """The object at a path, None for what is no ledgers' object. Raises LakeUnusable for one that does not fit."""
        found = _OBJECT.fullmatch(path.rpartition("/")[2])
        if found is None:
            return None
        batch = self.batch_of(int(found[2]))
        if not path.startswith(self.name_of(batch) + "."):
            raise LakeUnusable(object=path, reason="the name does not fit the lake's configuration")
        return batch


def is_partition(folder: str) -> bool:
    """Whether a folder's name is that of a partition."""
    found = _PARTITION.fullmatch(folder.strip("/").rpartition("/")[2])
    return found is not None and found[1] == _countdown(int(found[2]))


def parse_config(text: bytes) -> tuple[Layout, str]:
    """The layout that a lake declares, and the passphrase of its network. Raises LakeUnusable."""
    try:
        config = orjson.loads(text)
    except ValueError as error:
        raise LakeUnusable(object=CONFIG_NAME, reason="is not JSON") from error
    if not isinstance(config, dict):
        raise LakeUnusable(object=CONFIG_NAME, reason="is no object")
    passphrase = _field(config, "networkPassphrase", str)
    version = _field(config, "version", str)
    compression = _field(config, "compression", str)
    if version.partition(".")[0] != "1":
        raise LakeUnusable(object=CONFIG_NAME, version=version[:50], reason="the version is not known")
    if compression != "zstd":
        raise LakeUnusable(
            object=CONFIG_NAME, compression=compression[:50], reason="the compression is not known"
        )
    per_batch = _field(config, "ledgersPerBatch", int)
    per_partition = _field(config, "batchesPerPartition", int)
    if not (0 < per_batch <= HEIGHT_MAX and 0 < per_partition <= HEIGHT_MAX):
        raise LakeUnusable(object=CONFIG_NAME, reason="batches and partitions hold at least one")
    return Layout(ledgers_per_batch=per_batch, batches_per_partition=per_partition), passphrase


def unpack_batch(packed: bytes, batch: Batch, name: str, *, bytes_max: int = BATCH_MAX_BYTES) -> list[bytes]:
    """The ledgers of an object, each one LedgerCloseMeta, the first that of `batch.oldest`.

    Raises UnreadableLedger for what is no batch of just these ledgers; whether they are those is told by their headers.
    """
    data = _decompress(packed, name, bytes_max)
    if len(data) < _HEAD.size:
        raise UnreadableLedger(object=name, reason="ends within its head")
    first, last, count = _HEAD.unpack_from(data)
    if (first, last, count) != (batch.oldest, batch.last, batch.last - batch.oldest + 1):
        raise UnreadableLedger(
            object=name, first=first, last=last, count=count, reason="holds other ledgers than its name says"
        )
    skip = walker().skip("LedgerCloseMeta")
    ledgers = []
    at = _HEAD.size
    for _ in range(count - 1):
        begin, at = at, skip(data, at, DEPTH_MAX)
        ledgers.append(data[begin:at])
    # The last one ends with the object, or is refused by whoever scans it: walking it twice would cost as much as reading it.
    return [*ledgers, data[at:]]


def pack_batch(ledgers: list[bytes], first: int) -> bytes:
    """The object that holds these ledgers, of which the first has this height."""
    head = _HEAD.pack(first, first + len(ledgers) - 1, len(ledgers))
    return zstandard.ZstdCompressor(write_checksum=True).compress(head + b"".join(ledgers))


def _decompress(packed: bytes, name: str, bytes_max: int) -> bytes:
    """One frame, whole, with nothing behind it and no larger than allowed. Raises UnreadableLedger."""
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    pieces = []
    size = 0
    try:
        for at in range(0, len(packed), _SLICE):
            piece = unpacker.decompress(packed[at : at + _SLICE])
            size += len(piece)
            if size > bytes_max:
                raise UnreadableLedger(object=name, reason=f"holds more than {bytes_max} bytes")
            pieces.append(piece)
            if unpacker.eof:
                left = len(packed) - at - _SLICE
                if unpacker.unused_data or left > 0:
                    raise UnreadableLedger(object=name, reason="bytes follow its end")
                return b"".join(pieces)
    except zstandard.ZstdError as error:
        raise UnreadableLedger(object=name, reason=str(error)[:200]) from error
    raise UnreadableLedger(object=name, reason="ends before its end")


def _countdown(first: int) -> str:
    return f"{HEIGHT_MAX - first:08X}"


def _field(config: dict[str, Any], name: str, kind: type[Any]) -> Any:
    value = config.get(name)
    if type(value) is not kind:
        raise LakeUnusable(object=CONFIG_NAME, field=name, reason="is missing or of another type")
    return value
