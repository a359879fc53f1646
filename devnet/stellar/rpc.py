"""The methods of Stellar RPC, as JSON-ready values in the shapes of the public servers.

Where the real server writes a number as a string (times, fees), so does this one.
"""

import base64
import binascii
from collections import Counter
from collections.abc import Callable
from typing import Any

from stellar_sdk import xdr
from xdrlib3 import Error as XdrlibError

from devnet.stellar.close import PROTOCOL_VERSION
from devnet.stellar.envelope import EnvelopeInvalid
from devnet.stellar.network import NOTICE, LocalNetwork
from devnet.stellar.store import LedgerRecord, TxRecord

PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
MAX_PAGE, DEFAULT_PAGE, MAX_KEYS, RETENTION = 200, 50, 200, 120_960
FEE_WINDOW_LEDGERS = 10
Params = dict[str, Any]


class RpcError(Exception):
    """An error of the JSON-RPC protocol or of a method's parameters."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RpcMethods:
    """One network behind the method names of Stellar RPC."""

    def __init__(self, network: LocalNetwork, friendbot_url: str) -> None:
        self._network = network
        self._friendbot_url = friendbot_url
        self._methods: dict[str, Callable[[Params], Params]] = {
            "getHealth": self._health,
            "getNetwork": self._about,
            "getVersionInfo": self._version,
            "getLatestLedger": self._latest_ledger,
            "getLedgers": self._ledgers,
            "getLedgerEntries": self._ledger_entries,
            "getTransaction": self._transaction,
            "getTransactions": self._transactions,
            "sendTransaction": self._send,
            "getFeeStats": self._fee_stats,
        }

    def call(self, method: str, params: Params) -> Params:
        """Raises RpcError."""
        handler = self._methods.get(method)
        if handler is None:
            raise RpcError(NO_METHOD, f"method not found: {method}")
        return handler(params)

    def _health(self, _params: Params) -> Params:
        return {
            "status": "healthy",
            "latestLedger": self._network.latest.sequence,
            "oldestLedger": self._network.oldest.sequence,
            "ledgerRetentionWindow": self._network.misbehaviour.faults.keep_ledgers or RETENTION,
        }

    def _about(self, _params: Params) -> Params:
        return {
            "friendbotUrl": self._friendbot_url,
            "passphrase": self._network.passphrase,
            "protocolVersion": PROTOCOL_VERSION,
            "notice": NOTICE,
        }

    def _version(self, _params: Params) -> Params:
        return {
            "version": f"devnet ({NOTICE})",
            "commitHash": "",
            "buildTimestamp": "",
            "captiveCoreVersion": "none: this is a development network",
            "protocolVersion": PROTOCOL_VERSION,
        }

    def _latest_ledger(self, _params: Params) -> Params:
        latest = self._network.latest
        return {
            "id": latest.hash.hex(),
            "protocolVersion": PROTOCOL_VERSION,
            "sequence": latest.sequence,
            "closeTime": str(latest.close_time),
            "headerXdr": latest.header.header.to_xdr(),
            "metadataXdr": _b64(latest.meta),
        }

    def _ledgers(self, params: Params) -> Params:
        oldest, latest = self._network.oldest, self._network.latest
        start, limit = _page(params, oldest.sequence, latest.sequence)
        found = self._network.ledgers(start, limit)
        return {
            "ledgers": [_ledger_info(record) for record in found],
            "latestLedger": latest.sequence,
            "latestLedgerCloseTime": latest.close_time,
            "oldestLedger": oldest.sequence,
            "oldestLedgerCloseTime": oldest.close_time,
            "cursor": str(found[-1].sequence if found else start - 1),
        }

    def _ledger_entries(self, params: Params) -> Params:
        keys = params.get("keys")
        if not isinstance(keys, list) or not keys or len(keys) > MAX_KEYS:
            raise RpcError(INVALID_PARAMS, f"keys must be a list of 1 to {MAX_KEYS} base64 LedgerKeys")
        entries = []
        for text in keys:
            entry = self._network.entry(_parse_key(text))
            if entry is not None:
                modified = entry.last_modified_ledger_seq.uint32
                entries.append({"key": text, "xdr": entry.data.to_xdr(), "lastModifiedLedgerSeq": modified})
        return {"entries": entries, "latestLedger": self._network.latest.sequence}

    def _transaction(self, params: Params) -> Params:
        text = params.get("hash")
        if not isinstance(text, str) or len(text) != 64 or set(text) - set("0123456789abcdef"):
            raise RpcError(INVALID_PARAMS, "unexpected hash: must be 64 lower-case hexadecimal digits")
        # Latest first: whoever reads NOT_FOUND may trust that the ledgers up to latestLedger were searched.
        latest, oldest = self._network.latest, self._network.oldest
        answer: Params = {
            "latestLedger": latest.sequence,
            "latestLedgerCloseTime": str(latest.close_time),
            "oldestLedger": oldest.sequence,
            "oldestLedgerCloseTime": str(oldest.close_time),
            "txHash": text,
        }
        row = self._network.transaction(bytes.fromhex(text))
        if row is None:
            return answer | {"status": "NOT_FOUND"}
        return answer | _transaction_fields(row) | {"createdAt": str(row.close_time)}

    def _transactions(self, params: Params) -> Params:
        """Pages of transactions. The cursor is the TOID (SEP-35) of the last one."""
        oldest, latest = self._network.oldest, self._network.latest
        pagination = _mapping(params.get("pagination"))
        cursor, limit = pagination.get("cursor"), _limit(pagination)
        if cursor:
            after = _whole_number(cursor, "cursor")
            start = after >> 32
        else:
            start, _ = _page(params, oldest.sequence, latest.sequence)
            after = (start << 32) - 1
        rows: list[TxRecord] = []
        last = after
        for ledger in range(max(start, oldest.sequence), latest.sequence + 1):
            rows += [row for row in self._network.transactions_of(ledger) if _toid(row) > after]
            last = max(last, (ledger << 32) | 0xFFFFFFFF)
            if len(rows) >= limit:
                rows = rows[:limit]
                last = _toid(rows[-1])
                break
        return {
            "transactions": [
                _transaction_fields(row) | {"txHash": row.frame.tx_hash.hex(), "createdAt": row.close_time}
                for row in rows
            ],
            "latestLedger": latest.sequence,
            "latestLedgerCloseTimestamp": latest.close_time,
            "oldestLedger": oldest.sequence,
            "oldestLedgerCloseTimestamp": oldest.close_time,
            "cursor": str(last),
        }

    def _send(self, params: Params) -> Params:
        text = params.get("transaction")
        if not isinstance(text, str):
            raise RpcError(INVALID_PARAMS, "invalid_xdr: transaction must be a base64 TransactionEnvelope")
        try:
            return self._network.submit(text)
        except EnvelopeInvalid as error:
            raise RpcError(INVALID_PARAMS, f"invalid_xdr: {error}") from error

    def _fee_stats(self, _params: Params) -> Params:
        latest = self._network.latest.sequence
        ledgers = range(max(self._network.oldest.sequence, latest - FEE_WINDOW_LEDGERS + 1), latest + 1)
        paid = [
            row.result.fee_charged.int64 // row.frame.fee_units
            for ledger in ledgers
            for row in self._network.transactions_of(ledger)
        ]
        return {
            "sorobanInclusionFee": _distribution([], len(ledgers)),
            "inclusionFee": _distribution(_in_surge(paid, self._network), len(ledgers)),
            "latestLedger": latest,
        }


def _in_surge(paid: list[int], network: LocalNetwork) -> list[int]:
    """What was paid, or would have been where congestion is ordered."""
    least = network.misbehaviour.faults.surge_fee
    return [max(fee, least) for fee in paid] if paid else [least] * bool(least)


def _ledger_info(record: LedgerRecord) -> Params:
    return {
        "hash": record.hash.hex(),
        "sequence": record.sequence,
        "ledgerCloseTime": str(record.close_time),
        "headerXdr": record.header.to_xdr(),
        "metadataXdr": _b64(record.meta),
    }


def _transaction_fields(row: TxRecord) -> Params:
    meta = row.processing.tx_apply_processing
    body = meta.v4
    return {
        "status": "SUCCESS" if row.successful else "FAILED",
        "applicationOrder": row.order,
        "feeBump": row.frame.fee_bump is not None,
        "envelopeXdr": row.frame.envelope.to_xdr(),
        "resultXdr": row.result.to_xdr(),
        "resultMetaXdr": meta.to_xdr(),
        "ledger": row.ledger,
        "events": {
            "transactionEventsXdr": [] if body is None else [event.to_xdr() for event in body.events],
            "contractEventsXdr": []
            if body is None
            else [[event.to_xdr() for event in op.events] for op in body.operations],
        },
    }


def _page(params: Params, oldest: int, latest: int) -> tuple[int, int]:
    """First ledger and count of a page. A start outside [oldest, latest] is an error, as on the real server."""
    pagination = _mapping(params.get("pagination"))
    cursor, start = pagination.get("cursor"), params.get("startLedger")
    if cursor:
        if start:
            raise RpcError(INVALID_REQUEST, "startLedger and cursor cannot both be set")
        first = _whole_number(cursor, "cursor") + 1
        if not oldest <= first <= latest:
            raise RpcError(
                INVALID_PARAMS,
                f"cursor ('{cursor}') must be between the oldest ledger: {oldest} and the latest ledger: "
                f"{latest} for this rpc instance",
            )
        return first, _limit(pagination)
    if type(start) is not int or not oldest <= start <= latest:
        raise RpcError(
            INVALID_REQUEST,
            f"start ledger must be between the oldest ledger: {oldest} and the latest ledger: {latest} "
            "for this rpc instance",
        )
    return start, _limit(pagination)


def _limit(pagination: Params) -> int:
    limit = pagination.get("limit")
    if limit is None or limit == 0:
        return DEFAULT_PAGE
    if type(limit) is not int or not 0 < limit <= MAX_PAGE:
        raise RpcError(INVALID_REQUEST, f"limit must be from 1 to {MAX_PAGE}")
    return limit


def _mapping(value: Any) -> Params:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RpcError(INVALID_PARAMS, "pagination must be an object")
    return value


def _whole_number(text: Any, name: str) -> int:
    if not isinstance(text, str) or not text.isascii() or not text.isdigit():
        raise RpcError(INVALID_PARAMS, f"{name} must be a decimal number in a string")
    return int(text)


def _parse_key(text: Any) -> xdr.LedgerKey:
    if not isinstance(text, str):
        raise RpcError(INVALID_PARAMS, "a key must be a base64 LedgerKey")
    try:
        return xdr.LedgerKey.from_xdr_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, EOFError, XdrlibError) as error:
        raise RpcError(INVALID_PARAMS, f"cannot unmarshal key value {text}") from error


def _toid(row: TxRecord) -> int:
    return (row.ledger << 32) | (row.order << 12) | 1


def _distribution(fees: list[int], ledgers: int) -> Params:
    """Percentiles by nearest rank, in the strings of the real answer; all zero without transactions."""
    ordered = sorted(fees)
    mode = Counter(ordered).most_common(1)[0][0] if ordered else 0
    ranks = (10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 99)
    answer = {
        "max": str(ordered[-1] if ordered else 0),
        "min": str(ordered[0] if ordered else 0),
        "mode": str(mode),
        "transactionCount": str(len(ordered)),
        "ledgerCount": ledgers,
    }
    for rank in ranks:
        place = -(-rank * len(ordered) // 100) - 1
        answer[f"p{rank}"] = str(ordered[place] if ordered else 0)
    return answer


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
