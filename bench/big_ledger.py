"""A ledger as large as the network's plans for it, and a process that reads nothing else. `python -m bench.big_ledger FILE`"""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import time
from pathlib import Path

from ingestion.stellar.normalize import named_holders
from ingestion.stellar.scan.ledger import scan_ledger, scanner, walker
from ingestion.stellar.scan.walk import DEPTH_MAX


def grow_ledger(data: bytes, times: int) -> bytes:
    """The same ledger with its processed transactions so many times over."""
    ledger = scan_ledger(data)
    begin, end = ledger.transactions[0].begin, ledger.transactions[-1].end
    count = (len(ledger.transactions) * times).to_bytes(4, "big")
    results = b"".join(data[slice(*each.result)] for each in ledger.transactions) * times
    grown = data[: begin - 4] + count + data[begin:end] * times + data[end:]
    return seal_ledger(grown, count + results, ledger.height, ledger.parent_hash)


def seal_ledger(data: bytes, results: bytes, height: int, parent: bytes) -> bytes:
    """The ledger with a header for this place in the chain and this TransactionResultSet."""
    skip = walker().skip
    at = 4 if data[3] == 0 else skip("LedgerCloseMetaExt")(data, 4, DEPTH_MAX)
    begin = at + 32
    end = skip("LedgerHeader")(data, begin, DEPTH_MAX)
    value_end = skip("StellarValue")(data, begin + 36, DEPTH_MAX)
    header = bytearray(data[begin:end])
    header[4:36] = parent
    offset = value_end - begin
    header[offset : offset + 32] = hashlib.sha256(results).digest()
    header[offset + 64 : offset + 68] = height.to_bytes(4, "big")
    return data[:at] + hashlib.sha256(header).digest() + bytes(header) + data[end:]


def read_alone(path: Path) -> tuple[float, float]:
    """Processor seconds of scanning the file's ledger and the most memory, in MiB, of a process that did only that."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.big_ledger", str(path)], capture_output=True, check=True, text=True
    )
    seconds, mib = done.stdout.split()
    return float(seconds), float(mib)


def main() -> int:
    """Scan, then print processor seconds and MiB."""
    data = Path(sys.argv[1]).read_bytes()
    scanner().find("LedgerCloseMeta")
    started = time.process_time()
    named_holders(scan_ledger(data))
    spent = time.process_time() - started
    print(spent, _peak_mib())
    return 0


def _peak_mib() -> float:
    """The most memory that this program had. On Linux getrusage would tell its parent's where that was more."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)
    (peak,) = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(peak) / (1 << 10)


if __name__ == "__main__":
    sys.exit(main())
