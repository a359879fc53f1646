"""Wrapped keys on a SoftHSM token: how fast they are made and sign, and how long a start takes with many of them.

`python -m bench.bench_keys [KEYS]` prints a table and writes build/bench/keys.json. No target fails it; figures are for reading.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.cells import BUILD
from devnet.softhsm import create_token
from signer.admission import wrapped_key, wrapping_keys
from signer.decide import Decider
from signer.hsm.keys import KeyStore
from signer.hsm.module import find_token
from signer.hsm.objects import AnchorObject, MacKey
from signer.hsm.sessions import SessionPool
from signer.hsm.wrapped import UNWRAPPED_MAX
from signer.policy.document import parse_policy
from signer.protocol.messages import CreateKey
from signer.record import Record

KEYS = 10_000
POLICY: dict[str, object] = {
    "format": "custody-policy-v1",
    "version": 1,
    "approver_set_version": 1,
    "networks": {},
    "approvers": [],
    "deny": [],
    "allow": [],
}
MESSAGE = bytes(32)


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        token = create_token(Path(folder) / "hsm")
        os.environ["SOFTHSM2_CONF"] = str(token.conf)
        pool = SessionPool(find_token(token.module, "", token.label), token.pin_file.read_text().strip(), 2)
        figures = measure(pool, Path(folder), count)
    for name, value in figures.items():
        print(f"{name:42} {value:>12,.2f}")
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "keys.json").write_text(json.dumps({"keys": count, **figures}, indent=2) + "\n")


def measure(pool: SessionPool, folder: Path, count: int) -> dict[str, float]:
    keys = KeyStore(pool)
    record = open_record(pool, folder)
    decider = Decider(record, keys)
    made = per_second(count, lambda number: decider.keyring.create_key(request(number)))
    record.close()
    started = time.perf_counter()
    record = open_record(pool, folder)
    keys.check_wrapping_key(wrapping_keys(record.state))
    ready = time.perf_counter() - started
    stored = [wrapped_key(fact) for fact in record.state.wrapped.values()]
    record.close()
    # Each key of the first loop is met once; those of the second fit into what a session keeps.
    few = min(len(stored), UNWRAPPED_MAX // 2)
    cold = per_second(min(len(stored), 1_000), lambda number: keys.sign_wrapped(stored[number], MESSAGE))
    hot = per_second(1_000, lambda number: keys.sign_wrapped(stored[number % few], MESSAGE))
    return {
        "created and journaled, keys/s": made,
        "start with all of them, s": ready,
        "signed, each key for the first time, /s": cold,
        "signed, keys that are unwrapped, /s": hot,
    }


def open_record(pool: SessionPool, folder: Path) -> Record:
    return Record.open(
        directory=folder,
        mac=MacKey(pool),
        store=AnchorObject(pool),
        policy=parse_policy(json.dumps(POLICY).encode()),
        clock=lambda: int(time.time()),
    )


def request(number: int) -> CreateKey:
    return CreateKey(
        request_id=f"bench-{number}",
        org="bench",
        vault="deposit",
        curve="secp256k1",
        label=f"deposit-{number}",
        storage="wrapped",
    )


def per_second(count: int, step: Callable[[int], object]) -> float:
    started = time.perf_counter()
    for number in range(count):
        step(number)
    return count / (time.perf_counter() - started)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else KEYS)
