"""Ledgers for tests: real ones where they lie beside the project, and what the SDK's full decode says of any of them."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from stellar_sdk import Network, StrKey, xdr

from ingestion.stellar.movements import TokenEvent

PASSPHRASE = Network.PUBLIC_NETWORK_PASSPHRASE
UNIFIED = (51000294, 63092988, 63092990)
"""Real ledgers with meta V4, for which two oracles were written down."""
OLD = (6154623, 16154623, 26154623, 36154623, 46154623)
"""Real ledgers of LedgerCloseMeta V0."""
BATCH = 53312000
"""The real ledger of meta V3 that a Galexie object holds."""


def real_ledger(fixtures: Path, number: int) -> bytes:
    """One real LedgerCloseMeta. Skips the test where it is missing."""
    folder = fixtures / "stellar" / "pubnet"
    if number in UNIFIED:
        return gzip.decompress(_read(folder / f"ledger-{number}.xdr.gz"))
    if number in OLD:
        lines = gzip.decompress(_read(folder / "ledgers-v0-base64.txt.gz")).split()
        found = [base64.b64decode(line) for line in lines]
        return next(each for each in found if sdk_header(each).ledger_seq.uint32 == number)
    packed = pa.BufferReader(_read(folder / f"FCD285FF--{number}.xdr.zstd"))
    batch = pa.CompressedInputStream(packed, "zstd").read()
    return xdr.LedgerCloseMetaBatch.from_xdr_bytes(batch).ledger_close_metas[0].to_xdr_bytes()


def expected_transactions(fixtures: Path, number: int) -> list[dict[str, Any]]:
    """What the oracles say of a real ledger with meta V4."""
    source = fixtures / "stellar" / "pubnet" / f"ledger-{number}.expected.json.gz"
    found: list[dict[str, Any]] = json.loads(gzip.decompress(_read(source)))["txs"]
    return found


def shown(event: TokenEvent) -> dict[str, Any]:
    """An event as the oracles write it."""
    row: dict[str, Any] = {
        "op_index": event.op_index,
        "type": event.kind,
        "contract": event.contract,
        "asset": event.asset,
        "addresses": [each for each in (event.source, event.destination) if each],
        "amount": str(event.amount),
    }
    if event.tag is not None:
        row["to_muxed"] = {"id": str(event.tag)}
    elif event.memo:
        kind, _, words = event.memo.partition(":")
        row["to_muxed"] = {"bytes" if kind == "hash" else kind: words}
    return row


def deltas(row: dict[str, Any]) -> dict[tuple[str, str], int]:
    """An oracle's balance changes. It names pools and claimable balances by a letter and their hash in hex."""
    return {(_address(holder), asset): change for holder, asset, change in row["balance_deltas"]}


def sdk_header(data: bytes) -> xdr.LedgerHeader:
    """The header by the SDK."""
    return sdk_body(xdr.LedgerCloseMeta.from_xdr_bytes(data)).ledger_header.header


def sdk_body(meta: xdr.LedgerCloseMeta) -> Any:
    """Whatever version the meta is of."""
    return meta.v2 or meta.v1 or meta.v0


def sdk_summary(data: bytes) -> list[tuple[Any, ...]]:
    """What the SDK's full decode says of what the scanner reads: the oracle. Raises what the SDK raises."""
    body = sdk_body(xdr.LedgerCloseMeta.from_xdr_bytes(data))
    header = body.ledger_header.header
    rows: list[tuple[Any, ...]] = [
        (
            header.ledger_seq.uint32,
            body.ledger_header.hash.hash,
            header.previous_ledger_hash.hash,
            header.scp_value.close_time.time_point.uint64,
        )
    ]
    for processed in body.tx_processing:
        meta = processed.tx_apply_processing
        result = processed.result
        rows.append(
            (
                result.transaction_hash.hash,
                result.result.fee_charged.int64,
                result.result.result.code.value,
                meta.v,
                *_sdk_meta(meta, len(processed.fee_processing.ledger_entry_changes)),
            )
        )
    return rows


def _sdk_meta(meta: xdr.TransactionMeta, fee_changes: int) -> tuple[int, int, int]:
    """How many operations, entry changes and contract events, without the changes after all transactions."""
    inner: Any = meta.v4 or meta.v3 or meta.v2 or meta.v1
    operations = inner.operations if inner is not None else meta.operations or []
    lists = [each.changes for each in operations]
    lists += [
        getattr(inner, name)
        for name in ("tx_changes", "tx_changes_before", "tx_changes_after")
        if hasattr(inner, name)
    ]
    events = len(meta.v4.events) if meta.v4 is not None else 0
    if meta.v4 is not None:
        events += sum(len(each.events) for each in meta.v4.operations)
    if meta.v3 is not None and meta.v3.soroban_meta is not None:
        events += len(meta.v3.soroban_meta.events)
    changes = fee_changes + sum(len(each.ledger_entry_changes) for each in lists)
    return len(operations), changes, events


def _read(source: Path) -> bytes:
    if not source.exists():
        pytest.skip(f"{source.name} is not among the fixtures (set CUSTODY_FIXTURES)")
    return source.read_bytes()


def _address(holder: str) -> str:
    match holder[0], len(holder):
        case "L", 65:
            return StrKey.encode_liquidity_pool(bytes.fromhex(holder[1:]))
        case "B", 65:
            return StrKey.encode_claimable_balance(bytes(1) + bytes.fromhex(holder[1:]))
        case _:
            return holder
