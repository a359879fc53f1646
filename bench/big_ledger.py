"""A ledger as large as the network's plans for it, and a process that reads nothing else. `python -m bench.big_ledger FILE`"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

from ingestion.stellar.normalize import named_holders
from ingestion.stellar.scan.ledger import scan_ledger, scanner


def grow_ledger(data: bytes, times: int) -> bytes:
    """The same ledger with its processed transactions so many times over. The header, and so its hash, stays."""
    ledger = scan_ledger(data)
    begin, end = ledger.transactions[0].begin, ledger.transactions[-1].end
    count = len(ledger.transactions) * times
    return data[: begin - 4] + count.to_bytes(4, "big") + data[begin:end] * times + data[end:]


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
