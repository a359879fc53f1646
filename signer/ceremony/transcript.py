"""The transcript of a ceremony: what was done, line by line, chained by hash and signed at its end by everybody who watched.

Each line is JSON {"at","event","fields","hash","n","prev"}; `hash` is SHA-256 over a tag, n, the previous hash and the canonical
JSON of at, event and fields. "begun" is first and names the witnesses by their Ed25519 keys; "closed" ends what was done; each
witness then signs the hash of the line "closed". No line holds a secret.
"""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from signer.ceremony.fault import CeremonyFault

LINE_TAG = b"custody-ceremony-line-v1\x00"
WITNESS_TAG = b"custody-ceremony-witness-v1\x00"
GENESIS = bytes(32)

Clock = Callable[[], str]
"""UTC time as ISO 8601 text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a transcript."""

    n: int
    """From 1."""
    at: str
    event: str
    fields: dict[str, Any]
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """A transcript that holds: chained, closed, and signed by some or all of its witnesses."""

    lines: tuple[Line, ...]
    head: bytes
    """Hash of the line "closed", which the witnesses sign."""
    witnesses: dict[str, bytes]
    """Name to Ed25519 public key, as the ceremony began with."""
    signed: frozenset[str]
    """Names of those who have signed."""


class Transcript:
    """A transcript that is being written; every line is on disk before the next step."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Begin a new file. Raises CeremonyFault when it exists or cannot be written."""
        self._clock = clock
        self._n = 0
        self._head = GENESIS
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CeremonyFault(f"the transcript {path} cannot be begun: {error.strerror}") from error

    def write(self, event: str, **fields: Any) -> None:
        """Add a line."""
        line = _make_line(self._n + 1, self._clock(), event, fields, self._head)
        os.write(self._descriptor, _dump(line, self._head))
        os.fsync(self._descriptor)
        self._n, self._head = line.n, line.hash

    def close(self) -> bytes:
        """Write the last line; return the head that the witnesses sign."""
        self.write("closed")
        os.close(self._descriptor)
        return self._head


def witness(path: Path, name: str, key: Ed25519PrivateKey, clock: Clock) -> bytes:
    """Add a witness's signature to a closed transcript; return its head. Raises CeremonyFault."""
    read = read_transcript(path)
    if read.witnesses.get(name) != key.public_key().public_bytes_raw():
        raise CeremonyFault(f"the ceremony has no witness {name} with this key")
    if name in read.signed:
        raise CeremonyFault(f"{name} has signed already")
    last = read.lines[-1]
    fields = {"name": name, "signature": key.sign(WITNESS_TAG + read.head).hex()}
    line = _make_line(last.n + 1, clock(), "witnessed", fields, last.hash)
    with path.open("ab") as stream:
        stream.write(_dump(line, last.hash))
        stream.flush()
        os.fsync(stream.fileno())
    return read.head


def read_transcript(path: Path) -> Witnessed:
    """Return a closed transcript whose every line and signature holds; raises CeremonyFault at the first that does not."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CeremonyFault(f"the transcript {path} cannot be read: {error.strerror}") from error
    lines: list[Line] = []
    for raw in data.splitlines(keepends=True):
        lines.append(_parse(raw, len(lines) + 1, lines[-1].hash if lines else GENESIS))
    closed = [place for place, line in enumerate(lines) if line.event == "closed"]
    if not lines or lines[0].event != "begun" or len(closed) != 1:
        raise CeremonyFault("the transcript is not whole: it has no beginning or is not closed")
    head = lines[closed[0]].hash
    witnesses = _witnesses(lines[0])
    signed: set[str] = set()
    for line in lines[closed[0] + 1 :]:
        signed.add(_check_witness(line, head, witnesses, signed))
    return Witnessed(lines=tuple(lines), head=head, witnesses=witnesses, signed=frozenset(signed))


def _witnesses(begun: Line) -> dict[str, bytes]:
    try:
        return {str(each["name"]): bytes.fromhex(each["public_key"]) for each in begun.fields["witnesses"]}
    except (KeyError, TypeError, ValueError) as error:
        raise CeremonyFault("the transcript's first line names no witnesses") from error


def _check_witness(line: Line, head: bytes, witnesses: dict[str, bytes], signed: set[str]) -> str:
    """Return the name of the witness; raises CeremonyFault."""
    fault = CeremonyFault(f"line {line.n} is not the signature of a witness")
    if line.event != "witnessed":
        raise fault
    try:
        name, signature = line.fields["name"], bytes.fromhex(line.fields["signature"])
        Ed25519PublicKey.from_public_bytes(witnesses[name]).verify(signature, WITNESS_TAG + head)
    except (KeyError, TypeError, ValueError, InvalidSignature) as error:
        raise fault from error
    if name in signed:
        raise fault
    return str(name)


def _make_line(n: int, at: str, event: str, fields: dict[str, Any], previous: bytes) -> Line:
    content = _canonical({"at": at, "event": event, "fields": fields})
    digest = hashlib.sha256(LINE_TAG + n.to_bytes(8, "big") + previous + content).digest()
    return Line(n=n, at=at, event=event, fields=fields, hash=digest)


def _dump(line: Line, previous: bytes) -> bytes:
    value = {
        "n": line.n,
        "at": line.at,
        "event": line.event,
        "fields": line.fields,
        "prev": previous.hex(),
        "hash": line.hash.hex(),
    }
    return _canonical(value) + b"\n"


def _parse(raw: bytes, n: int, previous: bytes) -> Line:
    fault = CeremonyFault(f"line {n} of the transcript was changed")
    try:
        value = json.loads(raw)
        line = _make_line(n, value["at"], value["event"], value["fields"], previous)
        same = _dump(line, previous) == raw
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise fault from error
    if not same:
        raise fault
    return line


def _canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")
