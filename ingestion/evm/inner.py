"""Value that contracts send inside calls, as tracers tell it. Pure.

Two dialects, one meaning: geth's `callTracer` (nested frames) and Parity's `trace_block` (a flat list with addresses). A frame
moves value when it and all around it succeeded and it is a call, a creation or a self-destruction; delegated and static calls
name the value of the call around them. The outermost frame is the transaction's own value and is left out here. Places count the
frames that moved value, depth first, so that both dialects give the same.
Source: go-ethereum, "Built-in tracers"; OpenEthereum, "The trace module"; EIP-6780 (self-destruction still pays).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from custody.chains.errors import RpcUnreadable
from custody.chains.evm.abi import parse_quantity
from ingestion.errors import InconsistentNode

DEBUG = "debug_traceBlockByHash"
TRACE = "trace_block"
TRACER = {"tracer": "callTracer", "tracerConfig": {"onlyTopCall": False}}
_MOVING = frozenset(("CALL", "CREATE", "CREATE2", "SELFDESTRUCT"))


@dataclass(frozen=True, slots=True, kw_only=True)
class InnerTransfer:
    """Ether that one frame of a transaction moved."""

    tx_hash: str
    place: int
    """Counted from 0 within the transaction."""
    source: str
    """Lower-case."""
    destination: str
    """Lower-case."""
    amount: int
    """Wei, more than zero."""


def of_frames(block: Mapping[str, Any], answer: Sequence[Any]) -> list[InnerTransfer]:
    """What `debug_traceBlockByHash` tells. Raises InconsistentNode when it is of other transactions, RpcUnreadable."""
    hashes = [str(each["hash"]).lower() for each in block["transactions"]]
    if len(answer) != len(hashes):
        raise InconsistentNode(height=block["number"], reason="traces of other transactions")
    found = []
    for tx_hash, each in zip(hashes, answer, strict=True):
        if not isinstance(each, dict) or not isinstance(each.get("result"), dict):
            raise RpcUnreadable(method=DEBUG, reason="a transaction without a trace")
        if str(each.get("txHash") or tx_hash).lower() != tx_hash:
            raise InconsistentNode(height=block["number"], reason="traces of other transactions")
        moved = [frame for frame in _walk(each["result"], outermost=True) if frame[2] > 0]
        found += _numbered(tx_hash, moved)
    return found


def of_traces(block: Mapping[str, Any], answer: Sequence[Any]) -> list[InnerTransfer]:
    """What `trace_block` tells. Raises InconsistentNode when it is of another block, RpcUnreadable."""
    by_tx: dict[str, list[Mapping[str, Any]]] = {
        str(each["hash"]).lower(): [] for each in block["transactions"]
    }
    for each in answer:
        if not isinstance(each, dict) or str(each.get("blockHash")).lower() != str(block["hash"]).lower():
            raise InconsistentNode(height=block["number"], reason="traces of another block")
        if each.get("type") != "reward":
            by_tx.setdefault(str(each.get("transactionHash")).lower(), []).append(each)
    if len(by_tx) != len(block["transactions"]) or not all(by_tx.values()):
        raise InconsistentNode(height=block["number"], reason="traces of other transactions")
    return [each for tx_hash, traces in by_tx.items() for each in _numbered(tx_hash, _flat(traces))]


def _walk(frame: Mapping[str, Any], *, outermost: bool) -> Iterator[tuple[str, str, int]]:
    """Source, destination and value of the frames that count, depth first. What a failed frame did is undone."""
    if frame.get("error"):
        return
    kind = str(frame.get("type")).upper()
    if not outermost and kind in _MOVING and frame.get("to"):
        value = parse_quantity(DEBUG, frame.get("value") or "0x0")
        yield str(frame["from"]).lower(), str(frame["to"]).lower(), value
    for inner in frame.get("calls") or []:
        yield from _walk(inner, outermost=False)


def _flat(traces: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, int]]:
    failed = [tuple(each["traceAddress"]) for each in traces if each.get("error")]
    moved = []
    for each in sorted(traces, key=lambda one: tuple(one["traceAddress"])):
        address = tuple(each["traceAddress"])
        if not address or any(address[: len(above)] == above for above in failed):
            continue
        side = _sides(each)
        if side is not None and side[2] > 0:
            moved.append(side)
    return moved


def _sides(trace: Mapping[str, Any]) -> tuple[str, str, int] | None:
    action, kind = trace["action"], trace.get("type")
    if kind == "suicide":
        value = parse_quantity(TRACE, action.get("balance") or "0x0")
        return str(action["address"]).lower(), str(action["refundAddress"]).lower(), value
    value = parse_quantity(TRACE, action.get("value") or "0x0")
    if kind == "create":
        return str(action["from"]).lower(), str((trace.get("result") or {})["address"]).lower(), value
    if kind == "call" and action.get("callType") == "call":
        return str(action["from"]).lower(), str(action["to"]).lower(), value
    return None


def _numbered(tx_hash: str, moved: Sequence[tuple[str, str, int]]) -> list[InnerTransfer]:
    return [
        InnerTransfer(tx_hash=tx_hash, place=place, source=source, destination=destination, amount=amount)
        for place, (source, destination, amount) in enumerate(moved)
    ]
