"""Write ledgers as a SEP-54 lake, as Galexie does: for tests, benches and trying the lake source by hand.

`python -m devnet.stellar.lake --rpc http://127.0.0.1:18000 --folder var/lake` exports what a running network has closed; again
and again it adds what is new.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from ingestion.stellar.lake_layout import (
    CONFIG_NAME,
    FIRST_LEDGER,
    SUFFIXES,
    Batch,
    Layout,
    pack_batch,
)

PAGE = 50


class LakeWriter:
    """One lake in a local folder. An object appears whole or not at all."""

    def __init__(self, folder: Path, passphrase: str, layout: Layout, *, suffix: str = SUFFIXES[0]) -> None:
        self._folder = folder
        self._layout = layout
        self._suffix = suffix
        config = {
            "networkPassphrase": passphrase,
            "version": "1.0",
            "compression": "zstd",
            "ledgersPerBatch": layout.ledgers_per_batch,
            "batchesPerPartition": layout.batches_per_partition,
        }
        self._put(CONFIG_NAME, json.dumps(config).encode())

    def path_of(self, height: int) -> Path:
        """Where the object lies that holds this ledger."""
        return self._folder / (self._layout.name_of(self._layout.batch_of(height)) + self._suffix)

    def write(self, metas: Sequence[bytes], first: int) -> int:
        """Write every object that these ledgers fill; the first of them has this height. Returns the last height written."""
        last = first - 1
        end = first + len(metas) - 1
        batch = self._layout.batch_of(first)
        while batch.last <= end:
            if batch.oldest >= first:
                held = metas[batch.oldest - first : batch.last - first + 1]
                self._put(self._layout.name_of(batch) + self._suffix, pack_batch(list(held), batch.oldest))
                last = batch.last
            batch = self._layout.batch_of(batch.last + 1)
        return last

    def has(self, batch: Batch) -> bool:
        """Whether an object was written."""
        return (self._folder / (self._layout.name_of(batch) + self._suffix)).exists()

    def _put(self, name: str, content: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.draft")
        draft.write_bytes(content)
        draft.rename(path)


def export(rpc_url: str, folder: Path, layout: Layout) -> int:
    """Add to a lake what the network behind this Stellar RPC has closed. Returns the last height in the lake."""
    with httpx.Client(timeout=20, trust_env=False) as http:

        def call(method: str, params: dict[str, Any]) -> dict[str, Any]:
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            found: dict[str, Any] = http.post(rpc_url, json=body).raise_for_status().json()["result"]
            return found

        writer = LakeWriter(folder, call("getNetwork", {})["passphrase"], layout)
        latest = call("getLatestLedger", {})["sequence"]
        batch = layout.batch_of(max(FIRST_LEDGER, call("getHealth", {})["oldestLedger"]))
        while batch.last <= latest:
            if not writer.has(batch):
                writer.write(list(_fetch(call, batch)), batch.oldest)
            batch = layout.batch_of(batch.last + 1)
        return batch.first - 1


def _fetch(call: Any, batch: Batch) -> list[bytes]:
    metas: list[bytes] = []
    while (start := batch.oldest + len(metas)) <= batch.last:
        limit = min(PAGE, batch.last - start + 1)
        page = call("getLedgers", {"startLedger": start, "pagination": {"limit": limit}})["ledgers"]
        metas += [base64.b64decode(each["metadataXdr"]) for each in page]
    return metas


def main(argv: list[str] | None = None) -> int:
    """Export once."""
    parser = argparse.ArgumentParser(
        prog="devnet.stellar.lake", description="Write a network's ledgers as a lake."
    )
    parser.add_argument("--rpc", required=True, help="Stellar RPC of the network")
    parser.add_argument("--folder", required=True, type=Path, help="where the lake lies")
    parser.add_argument("--ledgers-per-batch", type=int, default=1)
    parser.add_argument("--batches-per-partition", type=int, default=64_000)
    args = parser.parse_args(argv)
    layout = Layout(
        ledgers_per_batch=args.ledgers_per_batch, batches_per_partition=args.batches_per_partition
    )
    try:
        last = export(args.rpc, args.folder, layout)
    except (httpx.HTTPError, KeyError, OSError) as error:
        print(f"stellar lake: {error!r}", file=sys.stderr)
        return 2
    print(f"{os.fspath(args.folder)} holds ledgers up to {last}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
