"""What a fact costs when a million are there already, and what a start costs then.

The journal is a real file, flushed to disk; the token is a dictionary, since its cost does not depend on the journal's length.
"""

from __future__ import annotations

import gc
import hmac
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median

from bench.signer_stand import policy_document
from signer.facts import Bound, TransactionSigned
from signer.protocol.messages import EvmBinding
from signer.record import Record

BATCH = 1000
"""Facts between two looks at the clock."""
GROUP = 20
"""Facts in an entry, as under load."""
SAMPLE = 20
"""Batches at either end whose median is compared: one of them alone measures the disk's mood."""


class MemoryToken:
    """The anchor's places and a MAC without an HSM, in a file so that the next process finds them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.texts: dict[int, str] = {}
        if path.exists():
            self.texts = {place: text for place, text in enumerate(path.read_text().splitlines()) if text}

    def save(self) -> None:
        """Write the places for the next process."""
        self._path.write_text("\n".join(self.texts.get(place, "") for place in range(3)))

    def read(self, place: int) -> str:
        return self.texts.get(place, "")

    def write(self, place: int, text: str) -> None:
        self.texts[place] = text

    @staticmethod
    def mac(message: bytes) -> bytes:
        return hmac.digest(b"bench", message, "sha256")


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What the journal's length costs."""

    facts: int
    first_us: float
    """Per fact, of the first thousand."""
    last_us: float
    """Per fact, of the last thousand."""
    start_s: float
    """To read and verify the whole journal."""
    start_mib: float
    """Memory of the process after that."""


def grow(folder: Path, facts: int) -> Growth:
    """Write so many facts, then start on them in a process of its own."""
    token = MemoryToken(folder / "token")
    record = open_record(folder, token)
    times = [write_batch(record, start) for start in range(0, facts, BATCH)]
    record.close()
    token.save()
    del record
    gc.collect()
    done = subprocess.run(
        [sys.executable, "-m", "bench.signer_growth", str(folder)], capture_output=True, text=True, check=True
    )
    start_s, start_mib = map(float, done.stdout.split())
    sample = min(SAMPLE, len(times) // 2)
    return Growth(
        facts=facts,
        first_us=median(times[:sample]) / BATCH * 1e6,
        last_us=median(times[-sample:]) / BATCH * 1e6,
        start_s=start_s,
        start_mib=start_mib,
    )


def open_record(folder: Path, token: MemoryToken) -> Record:
    """The record on this journal."""
    policy = policy_document()
    return Record.open(
        directory=folder, mac=token.mac, store=token, policy=policy, clock=lambda: int(time.time())
    )


def write_batch(record: Record, start: int) -> float:
    """Bind and sign so many intents, asking what a decision asks; seconds that it took."""
    started = time.perf_counter()
    for number in range(start, start + BATCH, 2):
        digest = sha256(number.to_bytes(8, "big")).digest()
        bound = _bound(number, digest)
        record.state.spent((bound.org, bound.vault, bound.chain, bound.asset), record.now() - 86_400, digest)
        assert (bound.key_id, bound.chain, bound.slot) not in record.state.slots
        record.append(bound)
        record.append(TransactionSigned(digest=digest, tx=bytes(180), tx_hash=digest.hex()))
        if number % GROUP == GROUP - 2:
            record.settle(record.newest)
    return time.perf_counter() - started


def _bound(number: int, digest: bytes) -> Bound:
    """A fact of the usual size."""
    return Bound(
        digest=digest,
        intent=b"{" + b"x" * 700 + b"}",
        approvals=(),
        rule="quorum-eip155",
        binding=EvmBinding(nonce=number, max_fee_per_gas=10**10, max_priority_fee_per_gas=10**9),
        unsigned=bytes(120),
        key_id=f"{number % 64:032x}",
        slot_key=f"{number % 64:032x}",
        replaces=b"",
        chain="eip155:31337",
        slot=number,
        org="acme",
        vault="quorum",
        asset="native",
        amount=10**18 + number,
    )


if __name__ == "__main__":
    began = time.perf_counter()
    place = Path(sys.argv[1])
    open_record(place, MemoryToken(place / "token")).close()
    print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
