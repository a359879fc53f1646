"""The append-only journal: one line per fact, chained by hash, authenticated by an HSM key, on disk before
anything follows.

A line is JSON {"at","body","hash","mac","n","prev"}. `hash` is SHA-256 over tag, n, at, previous hash and
body; `mac` is HMAC-SHA256 of the hash under a key that never leaves the HSM. The file is opened once, locked,
and only ever grows; the one thing ever cut off is a last line without its newline, which was never on disk
completely and never acted upon.
"""

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from signer.refusal import EvidenceFault, StartupFault

TAG = b"custody-journal-v1\x00"
GENESIS = bytes(32)
FILE_NAME = "journal.jsonl"

Mac = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the journal."""

    n: int
    """Position, from 1."""
    at: int
    """Unix second of writing."""
    body: bytes
    hash: bytes
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
    def open(cls, directory: Path, mac: Mac) -> tuple["Journal", list[Entry]]:
        """Open and verify the journal, creating an empty one; returns it with all its entries.

        Raises StartupFault when the directory is missing or another process holds it, EvidenceFault when a
        line is not what the HSM key vouches for.
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
        journal = cls(descriptor, path, mac)
        try:
            return journal, journal._load()
        except EvidenceFault:
            journal.close()
            raise

    def append(self, at: int, body: bytes) -> Entry:
        """Write one entry and return after it is on disk; raises OSError or EvidenceFault, after which
        nothing may be appended any more.
        """
        self.check_untouched()
        n = self.count + 1
        entry = Entry(n=n, at=at, body=body, hash=_hash(n, at, self.head, body))
        line = _line(entry, self.head, self._mac(entry.hash))
        written = os.write(self._descriptor, line)
        if written != len(line):
            raise OSError("short write")
        os.fsync(self._descriptor)
        self._size += len(line)
        self.count, self.head = n, entry.hash
        return entry

    def check_untouched(self) -> None:
        """Check that the file is still the one opened and ends where this process left it; raises
        EvidenceFault.
        """
        held = os.fstat(self._descriptor)
        try:
            named = self._path.stat()
        except OSError as error:
            raise EvidenceFault("the journal file is gone") from error
        if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino) or held.st_size != self._size:
            raise EvidenceFault("the journal file was changed by another hand")

    def close(self) -> None:
        """Release the file and its lock."""
        os.close(self._descriptor)

    def _load(self) -> list[Entry]:
        data = self._path.read_bytes()
        whole = data.rfind(b"\n") + 1
        entries = []
        for line in data[:whole].splitlines():
            entry = _parse(line, self.count + 1, self.head, self._mac)
            entries.append(entry)
            self.count, self.head = entry.n, entry.hash
        if whole != len(data):
            os.ftruncate(self._descriptor, whole)
            os.fsync(self._descriptor)
        self._size = whole
        return entries


def _hash(n: int, at: int, previous: bytes, body: bytes) -> bytes:
    return hashlib.sha256(TAG + n.to_bytes(8, "big") + at.to_bytes(8, "big") + previous + body).digest()


def _line(entry: Entry, previous: bytes, mac: bytes) -> bytes:
    value = {
        "n": entry.n,
        "at": entry.at,
        "prev": previous.hex(),
        "body": entry.body.decode("ascii"),
        "hash": entry.hash.hex(),
        "mac": mac.hex(),
    }
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii") + b"\n"


def _parse(line: bytes, n: int, previous: bytes, mac: Mac) -> Entry:
    """Return the entry of a line that must be the n-th after `previous`; raises EvidenceFault."""
    broken = EvidenceFault(f"journal entry {n} is not what the HSM key vouches for")
    try:
        value = json.loads(line)
        at, body = value["at"], value["body"].encode("ascii")
        entry = Entry(n=n, at=at, body=body, hash=_hash(n, at, previous, body))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise broken from error
    expected = mac(entry.hash)
    if not hmac.compare_digest(_line(entry, previous, expected), line + b"\n"):
        raise broken
    return entry


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
