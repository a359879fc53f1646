"""The append-only file of closed ledgers, and what is kept in memory of them.

A frame is length, CRC-32 and payload. The first frame holds the passphrase, each later one a LedgerCloseMeta. A
ledger is fsynced before anyone can read it, so kill -9 loses at most a ledger that nobody has seen; a torn last
frame is cut off at the next start.
"""

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from stellar_sdk import xdr

from devnet.stellar.envelope import Frame, frame_of

FIRST_LEDGER = 2
"""The first ledger with a close meta; ledger 1 is the genesis."""
_HEAD = struct.Struct(">II")


class StateDirUnusable(RuntimeError):
    """The state directory belongs to another network or another process. The text says which."""


class LedgerLog:
    """The file. Holds an exclusive lock for as long as it is open."""

    def __init__(self, state_dir: Path, passphrase: str) -> None:
        state_dir.mkdir(parents=True, exist_ok=True)
        path = state_dir / "ledgers.bin"
        self._file: FileIO = path.open("a+b", buffering=0)
        try:
            self.metas = self._load(state_dir, passphrase)
            """The closed ledgers found at the start, oldest first."""
        except StateDirUnusable:
            self._file.close()
            raise

    def _load(self, state_dir: Path, passphrase: str) -> list[bytes]:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StateDirUnusable(f"{state_dir} is in use by another process") from error
        frames = list(self._intact_frames())
        if frames and frames[0] != passphrase.encode():
            raise StateDirUnusable(f"{state_dir} holds a network with another passphrase")
        if not frames:
            self.append(passphrase.encode())
        return frames[1:]

    def append(self, payload: bytes) -> None:
        """Write one frame and wait until the disk has it. Raises OSError, with the file as it was before."""
        size = os.fstat(self._file.fileno()).st_size
        try:
            self._write_whole(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(size)
            raise

    def close(self) -> None:
        self._file.close()

    def _write_whole(self, frame: bytes) -> None:
        if self._file.write(frame) != len(frame):
            raise OSError(errno.ENOSPC, "the disk took only a part of the ledger")

    def _intact_frames(self) -> Iterator[bytes]:
        """Read from the start and cut the file behind the last whole frame."""
        self._file.seek(0)
        good = 0
        while len(head := self._file.read(_HEAD.size)) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            payload = self._file.read(length)
            if len(payload) != length or zlib.crc32(payload) != checksum:
                break
            good = self._file.tell()
            yield payload
        self._file.truncate(good)
        self._file.seek(0, os.SEEK_END)


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRecord:
    """One closed ledger."""

    sequence: int
    hash: bytes
    close_time: int
    header: xdr.LedgerHeaderHistoryEntry
    meta: bytes
    """XDR of the LedgerCloseMeta."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TxRecord:
    """One transaction in a closed ledger."""

    ledger: int
    close_time: int
    order: int
    """1-based place in the order of application."""
    frame: Frame
    result: xdr.TransactionResult
    processing: xdr.TransactionResultMetaV1

    @property
    def successful(self) -> bool:
        return self.result.result.code >= 0


class History:
    """Closed ledgers by sequence and transactions by hash."""

    def __init__(self, network_id: bytes) -> None:
        self._network_id = network_id
        self._ledgers: list[LedgerRecord] = []
        self._transactions: dict[bytes, TxRecord] = {}
        self._by_ledger: dict[int, list[TxRecord]] = {}

    def add(self, meta: xdr.LedgerCloseMeta, raw: bytes) -> None:
        """Index one more ledger and its transactions. Raises ValueError when it does not follow the last one."""
        if meta.v2 is None:
            raise ValueError("this network only writes LedgerCloseMeta V2")
        entry = meta.v2.ledger_header
        record = LedgerRecord(
            sequence=entry.header.ledger_seq.uint32,
            hash=entry.hash.hash,
            close_time=entry.header.scp_value.close_time.time_point.uint64,
            header=entry,
            meta=raw,
        )
        if record.sequence != FIRST_LEDGER + len(self._ledgers):
            raise ValueError(f"ledger {record.sequence} does not follow the stored chain")
        frames = {f.tx_hash: f for f in _frames_in(meta.v2.tx_set, self._network_id)}
        rows = [
            TxRecord(
                ledger=record.sequence,
                close_time=record.close_time,
                order=order,
                frame=frames[one.result.transaction_hash.hash],
                result=one.result.result,
                processing=one,
            )
            for order, one in enumerate(meta.v2.tx_processing, start=1)
        ]
        self._ledgers.append(record)
        self._by_ledger[record.sequence] = rows
        self._transactions.update({row.frame.tx_hash: row for row in rows})

    @property
    def latest(self) -> LedgerRecord:
        return self._ledgers[-1]

    @property
    def oldest(self) -> LedgerRecord:
        return self._ledgers[0]

    def __len__(self) -> int:
        return len(self._ledgers)

    def ledgers(self, start: int, count: int) -> list[LedgerRecord]:
        first = start - FIRST_LEDGER
        return self._ledgers[first : first + count] if first >= 0 else []

    def transaction(self, tx_hash: bytes) -> TxRecord | None:
        return self._transactions.get(tx_hash)

    def transactions_of(self, ledger: int) -> list[TxRecord]:
        return self._by_ledger.get(ledger, [])


def check_link(header: xdr.LedgerHeader, previous_hash: bytes) -> None:
    """Raises ValueError when a stored header does not name its parent."""
    if header.previous_ledger_hash.hash != previous_hash:
        raise ValueError(f"stored ledger {header.ledger_seq.uint32} does not follow its parent")


def _frames_in(tx_set: xdr.GeneralizedTransactionSet, network_id: bytes) -> Iterator[Frame]:
    phases = [] if tx_set.v1_tx_set is None else tx_set.v1_tx_set.phases
    for phase in phases:
        for component in phase.v0_components or []:
            batch = component.txs_maybe_discounted_fee
            for envelope in [] if batch is None else batch.txs:
                yield frame_of(envelope, network_id)
