"""How fast the signer signs, with everything on, beside a bare loop of PKCS#11 signatures in the same minutes.

The signer is its own process, asked over its socket: approvals verified, transaction built and read back, journal and anchor
written. The loop holds one session and one key handle and signs 32 bytes. Each contender runs in every round; ratios are taken
within a round. Then: one request at a time, a start with 10,000 keys, and a journal that grows to a million facts.
`python -m bench.bench_signer [--quick] [--rounds N] [--requests N]`
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.cells import Cell, middle, print_table, ratio, write
from bench.signer_growth import Growth, grow
from bench.signer_load import Requests, drive
from bench.signer_stand import AUTOMATIC_VAULT, QUORUM_VAULT, SignerStand
from devnet.softhsm import create_token
from signer.hsm.keys import KeyStore
from signer.hsm.module import find_token
from signer.hsm.sessions import SessionPool

CURVES = {"secp256k1": "ECDSA", "ed25519": "EDDSA"}
"""Curve to PKCS#11 mechanism."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How long and how much."""

    rounds: int
    requests: int
    """In each cell."""
    single: int
    """Requests asked one at a time."""
    keys: int
    facts: int


def raw_loop(folder: Path) -> Callable[[str, int], Cell]:
    """A loop of bare signatures: one session, one cached handle, nothing else."""
    token = create_token(folder)
    os.environ["SOFTHSM2_CONF"] = str(token.conf)
    pool = SessionPool(find_token(token.module, "", token.label), token.pin_file.read_text().strip(), 1)
    store, handles = KeyStore(pool), {}
    # Imported here because the module reads SOFTHSM2_CONF when it is loaded.
    from pkcs11 import Mechanism, ObjectClass  # noqa: PLC0415

    for curve in CURVES:
        key_id = secrets.token_bytes(16)
        store.generate(key_id, curve, curve)
        with pool.slot() as slot:
            handles[curve] = slot.session.get_key(ObjectClass.PRIVATE_KEY, id=key_id)

    def loop(curve: str, count: int) -> Cell:
        mechanism, sign = Mechanism[CURVES[curve]], handles[curve].sign
        message = secrets.token_bytes(32)
        started, used = time.perf_counter(), time.process_time()
        for _ in range(count):
            sign(message, mechanism=mechanism)
        seconds = time.perf_counter() - started
        return Cell(
            done=count,
            seconds=seconds,
            server_cpu_s=0,
            client_cpu_s=time.process_time() - used,
            latencies_us=[seconds / count * 1e6],
        )

    return loop


def measure(stand: SignerStand, raw: Callable[[str, int], Cell], shape: Shape) -> list[dict[str, Cell]]:
    """All contenders, round after round."""
    vaults = {"quorum": QUORUM_VAULT, "auto": AUTOMATIC_VAULT}
    supplies = {
        (name, curve): Requests(stand.create_key(vault, curve))
        for name, vault in vaults.items()
        for curve in CURVES
    }
    rounds = []
    for number in range(shape.rounds):
        cells: dict[str, Cell] = {}
        for curve in CURVES:
            cells[f"{curve}_raw"] = raw(curve, shape.requests)
            for name in vaults:
                cells[f"{curve}_{name}"] = drive(stand, supplies[name, curve].make(shape.requests))
        single = [frame for curve in CURVES for frame in supplies["quorum", curve].make(shape.single // 2)]
        cells["quorum_single"] = drive(stand, single, connections=1)
        rounds.append(cells)
        print(f"round {number + 1} of {shape.rounds}", flush=True)
        print_table([cells])
    return rounds


def metrics(rounds: list[dict[str, Cell]], start_s: float, growth: Growth) -> dict[str, dict[str, object]]:
    """The file's figures."""

    def against(curve: str, name: str) -> dict[str, object]:
        return {
            "value": round(middle(rounds, f"{curve}_{name}", lambda c: c.per_second)),
            "unit": "signatures/s",
            "baseline": round(middle(rounds, f"{curve}_raw", lambda c: c.per_second)),
            "ratio": round(ratio(rounds, f"{curve}_{name}", f"{curve}_raw"), 3),
        }

    def plain(value: float, unit: str) -> dict[str, object]:
        return {"value": round(value, 3), "unit": unit, "baseline": None, "ratio": None}

    names = [name for name in ("quorum", "auto") if f"ed25519_{name}" in rounds[0]]
    return {
        **{f"{curve}_{name}_vs_raw": against(curve, name) for name in names for curve in CURVES},
        "quorum_p50_ms": plain(middle(rounds, "quorum_single", lambda c: c.latency_us(0.5)) / 1000, "ms"),
        "quorum_p99_ms": plain(middle(rounds, "quorum_single", lambda c: c.latency_us(0.99)) / 1000, "ms"),
        "startup_10k_keys_s": plain(start_s, "s"),
        "journal_growth": {
            "value": round(growth.last_us, 1),
            "unit": "us/fact",
            "baseline": round(growth.first_us, 1),
            "ratio": round(growth.last_us / growth.first_us, 3),
        },
        "journal_facts": plain(growth.facts, "facts"),
        "journal_start_s": plain(growth.start_s, "s"),
        "journal_start_memory": plain(growth.start_mib, "MiB"),
    }


def measure_start(folder: Path, keys: int) -> float:
    """Seconds from the process's beginning to its first answer, with so many keys in the journal; the median of three."""
    stand = SignerStand(folder)
    stand.register_keys(keys)
    times = []
    for _ in range(3):
        times.append(stand.start())
        stand.stop()
    return median(times)


def run(folder: Path, shape: Shape) -> dict[str, dict[str, object]]:
    """Measure everything in this folder, on the disk that it is on."""
    for name in ("raw", "signer", "keys", "journal"):
        (folder / name).mkdir()
    raw = raw_loop(folder / "raw")
    stand = SignerStand(folder / "signer")
    try:
        stand.start()
        rounds = measure(stand, raw, shape)
    finally:
        stand.stop()
    print_table(rounds)
    return metrics(rounds, measure_start(folder / "keys", shape.keys), grow(folder / "journal", shape.facts))


def main() -> int:
    """Run, print, write `build/bench/signer.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="short cells, for trying it out; figures are rough"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--requests", type=int)
    chosen = parser.parse_args()
    quick = chosen.quick
    shape = Shape(
        rounds=chosen.rounds or (1 if quick else 5),
        requests=chosen.requests or (300 if quick else 3000),
        single=60 if quick else 400,
        keys=200 if quick else 10_000,
        facts=10_000 if quick else 1_000_000,
    )
    with tempfile.TemporaryDirectory(prefix="bench-signer-") as folder:
        found = run(Path(folder), shape)
    for key, metric in found.items():
        print(f"{key:<28}{metric['value']:>12} {metric['unit']:<14}{metric['ratio'] or ''}")
    print(write("signer", found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
