"""The append-only journal: one line per group of facts, chained by hash, authenticated by an HSM key, on disk before
anything follows.

A line is `n`, `mac` and the group's facts, separated by tabs, ended by a newline; a fact is its unix second, a space and
JSON without control characters. `mac` is HMAC-SHA256, under a key that never leaves the HSM, of the SHA-256 over tag,
previous head, n and the facts. The head after a line is the SHA-256 over tag, previous head and the whole line, so it
vouches for every byte before it. The file is opened once, locked, and only ever grows; the one thing ever cut off is a
last line without its newline, which was never on disk completely and never acted upon.
"""

import fcntl
import hashlib
import hmac
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from signer.refusal import EvidenceFault, StartupFault

TAG = b"custody-journal-v2\x00"
GENESIS = bytes(32)
FILE_NAME = "journal.log"
_READ_SIZE = 1 << 20
_LINE = re.compile(rb"([1-9][0-9]*)\t([0-9a-f]{64})\t([^\n]+)\n")
_FACT = re.compile(rb"(0|[1-9][0-9]{0,11}) (\{[^\t]*\})")

Mac = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the journal."""

    n: int
    """Position, from 1."""
    mac: bytes
    """Hex, as it stands in the line."""
    facts: tuple[tuple[int, bytes], ...]
    """Unix second and JSON of each fact, in the order in which they were decided."""
    head: bytes
    """Chains this entry and all before it."""


class Journal:
    """The open journal file. Not safe for concurrent use; the caller holds one lock around it."""

    def __init__(self, descriptor: int, path: Path, mac: Mac) -> None:
        self._descriptor = descriptor
        self._path = path
        self._mac = mac
        self._size = 0
        self.count = 0
        self.head = GENESIS

    @classmethod
    def open(cls, directory: Path, mac: Mac) -> "Journal":
        """Open and lock the journal, creating an empty one; `replay` must follow.

        Raises StartupFault when the directory is missing or another process holds it.
        """
        path = directory / FILE_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartupFault(
                f"the journal directory {directory} cannot be used: {error.strerror}"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise StartupFault(f"another signer holds the journal in {directory}") from error
        _sync_directory(directory)
        return cls(descriptor, path, mac)

    def replay(self, vouched: int) -> Iterator[Entry]:
        """Read the file once from its beginning and return its entries as they are verified.

        The caller holds the head of entry `vouched` from the HSM and compares it: since a head vouches for every byte
        before it, only the entries after that one are asked for their MAC. Raises EvidenceFault when a line is not one.
        """
        with self._path.open("rb", buffering=_READ_SIZE) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    os.ftruncate(self._descriptor, self._size)
                    os.fsync(self._descriptor)
                    return
                yield self._read(line, check_mac=self.count >= vouched)

    def compose(self, facts: Sequence[bytes]) -> bytes:
        """Return the next line, for `write`. Raises HsmFault."""
        n, body = self.count + 1, b"\t".join(facts)
        mac = self._mac(_digest(self.head, n, body))
        return b"%d\t%s\t%s\n" % (n, mac.hex().encode("ascii"), body)

    def write(self, line: bytes) -> None:
        """Write what `compose` returned last, and return after it is on disk.

        Raises OSError or EvidenceFault, after which nothing may be written any more.
        """
        self.check_untouched()
        written = os.write(self._descriptor, line)
        if written != len(line):
            raise OSError("short write")
        os.fsync(self._descriptor)
        self._advance(line)

    def check_untouched(self) -> None:
        """Check that the file is still the one opened and ends where this process left it; raises
        EvidenceFault.
        """
        held = os.fstat(self._descriptor)
        try:
            named = os.stat(self._path)  # noqa: PTH116 - pathlib's own costs more than the call
        except OSError as error:
            raise EvidenceFault("the journal file is gone") from error
        if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino) or held.st_size != self._size:
            raise EvidenceFault("the journal file was changed by another hand")

    def close(self) -> None:
        """Release the file and its lock."""
        os.close(self._descriptor)

    def _read(self, line: bytes, *, check_mac: bool) -> Entry:
        entry = read_line(line, self.count + 1, self.head)
        if check_mac:
            body = line[:-1].split(b"\t", 2)[2]
            mac = self._mac(_digest(self.head, entry.n, body)).hex().encode("ascii")
            if not hmac.compare_digest(mac, entry.mac):
                raise EvidenceFault(f"journal entry {entry.n} is not what the HSM key vouches for")
        self._advance(line)
        return entry

    def _advance(self, line: bytes) -> None:
        self._size += len(line)
        self.count, self.head = self.count + 1, _head(self.head, line)


def read_line(line: bytes, n: int, previous: bytes) -> Entry:
    """Return entry `n` out of its whole line, chained to the `previous` head; raises EvidenceFault. Its MAC is not checked."""
    found = _LINE.fullmatch(line)
    if found is None or found[1] != b"%d" % n:
        raise EvidenceFault(f"journal entry {n} cannot be read")
    facts = []
    for part in found[3].split(b"\t"):
        fact = _FACT.fullmatch(part)
        if fact is None:
            raise EvidenceFault(f"journal entry {n} cannot be read")
        facts.append((int(fact[1]), fact[2]))
    return Entry(n=n, mac=found[2], facts=tuple(facts), head=_head(previous, line))


def _head(previous: bytes, line: bytes) -> bytes:
    return hashlib.sha256(TAG + previous + line).digest()


def _digest(previous: bytes, n: int, body: bytes) -> bytes:
    return hashlib.sha256(TAG + previous + n.to_bytes(8, "big") + body).digest()


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
