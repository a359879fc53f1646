"""How fast a Stellar ledger is read and proved, beside the SDK's full decode of the same bytes in the same minute.

Real pubnet ledgers, from ../shared/fixtures or CUSTODY_FIXTURES. Processor time of one process is counted, with the collector
on, and contenders take turns; ratios are taken within a round. The big ledger is read by a process of its own.
`python -m bench.bench_stellar [--quick] [--rounds N]`
"""

from __future__ import annotations

import argparse
import gzip
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import structlog
from stellar_sdk import Network, xdr

from bench.big_ledger import grow_ledger, read_alone
from bench.cells import write
from bench.stellar_books import Booked, book_ledgers, chain_ledgers
from custody.kernel.assetid import ChainId
from ingestion.stellar.holders import account_name
from ingestion.stellar.movements import EventReader
from ingestion.stellar.normalize import named_holders, normalize
from ingestion.stellar.scan.ledger import scan_ledger

LEDGERS = (51000294, 63092988, 63092990)
GROWN_TIMES = 25
"""How often the big ledger repeats the transactions of a real one: 5,900 of them, 20 MB."""
TRIES = 3
"""Of each contender in a round; the best counts, for all alike."""
FEW, MANY = 1_000, 1_000_000
WATCHED = 100_000
"""Vaults in the database while ledgers are booked end to end."""
OURS = 10
"""How many of the watched accounts each ledger names."""
CHAIN = ChainId("stellar:pubnet")


class Reading:
    """What is done with each ledger. Everything that is built once is built before it is timed."""

    def __init__(self, ledgers: list[bytes]) -> None:
        self.reader = EventReader(Network.PUBLIC_NETWORK_PASSPHRASE)
        self.hit = ours_of(ledgers)
        self.few = self.hit | strangers(FEW - len(self.hit))
        self.many = self.hit | strangers(MANY - len(self.hit))

    def sdk(self, data: bytes) -> None:
        """The whole ledger as objects."""
        xdr.LedgerCloseMeta.from_xdr_bytes(data)

    def scan(self, data: bytes) -> None:
        """Walk it all, and find whom it names."""
        named_holders(scan_ledger(data))

    def follow(self, data: bytes, watched: frozenset[str]) -> None:
        """What the worker does: scan, find what is ours, and read and prove that."""
        ledger = scan_ledger(data)
        normalize(ledger, CHAIN, self.reader, named_holders(ledger) & watched)

    def audit(self, data: bytes) -> None:
        """Read and prove every transaction."""
        normalize(scan_ledger(data), CHAIN, self.reader, frozenset(), audit=True)


def ours_of(ledgers: list[bytes]) -> frozenset[str]:
    """Some accounts of each ledger, the same in every run."""
    chance = random.Random(1)
    return frozenset(
        account
        for data in ledgers
        for account in chance.sample(sorted(named_holders(scan_ledger(data))), OURS)
    )


def strangers(count: int) -> frozenset[str]:
    """Accounts that no ledger names."""
    return frozenset(account_name(number.to_bytes(32, "big")) for number in range(1, count + 1))


def cpu_s(ledgers: list[bytes], work: Callable[[bytes], None]) -> float:
    """Processor seconds for each of these ledgers once."""
    started = time.process_time()
    for data in ledgers:
        work(data)
    return time.process_time() - started


def measure(ledgers: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Processor seconds of each contender, round after round. The first round, in which patterns are built, is not counted."""
    reading = Reading(ledgers)
    contenders: dict[str, Callable[[bytes], None]] = {
        "sdk": reading.sdk,
        "scan": reading.scan,
        "few": lambda data: reading.follow(data, reading.few),
        "many": lambda data: reading.follow(data, reading.many),
        "audit": reading.audit,
    }
    took: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            spent = min(cpu_s(ledgers, work) for _ in range(TRIES))
            if number:
                took[name].append(spent)
    return took


def metrics(
    took: dict[str, list[float]], count: int, big: list[tuple[float, float]], booked: Booked
) -> dict[str, dict[str, object]]:
    """The keys that the project follows."""

    def against(candidate: str, baseline: str) -> dict[str, object]:
        pairs = zip(took[baseline], took[candidate], strict=True)
        return {
            "value": round(count / median(took[candidate]), 1),
            "unit": "ledgers/CPU s",
            "baseline": round(count / median(took[baseline]), 1),
            "ratio": round(median(slow / fast for slow, fast in pairs), 2),
        }

    def plain(value: float, unit: str) -> dict[str, object]:
        return {"value": round(value, 3), "unit": unit, "baseline": None, "ratio": None}

    pairs = zip(took["many"], took["few"], strict=True)
    return {
        "scan_vs_sdk": against("scan", "sdk"),
        "follow_vs_sdk": against("few", "sdk"),
        "audit_vs_sdk": against("audit", "sdk"),
        "ledgers_per_s": plain(booked.ledgers / booked.worker_cpu_s, "ledgers/s of one core"),
        "worker_cpu_per_ledger": plain(booked.worker_cpu_s / booked.ledgers, "CPU s"),
        "server_cpu_per_ledger": plain(booked.server_cpu_s / booked.ledgers, "CPU s"),
        "watch_cost": plain(median(many / few for many, few in pairs), "ratio"),
        "big_ledger_s": plain(median(seconds for seconds, _ in big), "CPU s"),
        "rss_big_ledger_mib": plain(max(mib for _, mib in big), "MiB"),
    }


def main() -> int:
    """Measure, print, write build/bench/stellar.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    default = Path(__file__).parent.parent.parent / "shared" / "fixtures"
    folder = Path(os.environ.get("CUSTODY_FIXTURES", str(default))) / "stellar" / "pubnet"
    if not folder.is_dir():
        print(f"bench_stellar: no real ledgers at {folder}; set CUSTODY_FIXTURES", file=sys.stderr)
        return 2
    # The worker tells of every stranger's token; here that would only cost time on the terminal.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    ledgers = [gzip.decompress((folder / f"ledger-{number}.xdr.gz").read_bytes()) for number in LEDGERS]
    rounds = 2 if options.quick else options.rounds
    took = measure(ledgers, rounds)
    with tempfile.TemporaryDirectory() as scratch:
        grown = Path(scratch) / "ledger.xdr"
        grown.write_bytes(grow_ledger(ledgers[-1], GROWN_TIMES))
        big = [read_alone(grown) for _ in range(3)]
    booked = book_ledgers(
        chain_ledgers(ledgers, 30 if options.quick else 100),
        sorted(ours_of(ledgers)),
        sorted(strangers(WATCHED)),
        CHAIN,
    )
    found = metrics(took, len(ledgers), big, booked)
    for name, figure in found.items():
        ratio = "" if figure["ratio"] is None else f"   {figure['ratio']} times {figure['baseline']}"
        print(f"{name:<20}{figure['value']:>10} {figure['unit']}{ratio}")
    print(write("stellar", found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
