"""The part of Horizon that tells of ledgers and their transactions, in the shapes of the public servers.

Source: Horizon's resources Root, Ledger and Transaction.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from devnet.stellar.close import PROTOCOL_VERSION
from devnet.stellar.network import NOTICE, LocalNetwork
from devnet.stellar.store import LedgerRecord, TxRecord

LIMIT_MAX, LIMIT_DEFAULT = 200, 10


class _Horizon:
    """The handlers of one network."""

    def __init__(self, network: LocalNetwork) -> None:
        self._network = network

    async def root(self, _request: Request) -> Response:
        if self._network.out_of_service():
            return _problem(503, "service_unavailable")
        return JSONResponse(
            {
                "horizon_version": f"devnet ({NOTICE})",
                "history_latest_ledger": self._network.latest.sequence,
                "history_elder_ledger": self._network.oldest.sequence,
                "core_latest_ledger": self._network.latest.sequence,
                "network_passphrase": self._network.passphrase,
                "current_protocol_version": PROTOCOL_VERSION,
            }
        )

    async def ledger(self, request: Request) -> Response:
        record = self._find(request)
        return record if isinstance(record, Response) else JSONResponse(self._show_ledger(record))

    async def transactions(self, request: Request) -> Response:
        record = self._find(request)
        if isinstance(record, Response):
            return record
        query = request.query_params
        limit = int(query.get("limit", LIMIT_DEFAULT))
        if not 0 < limit <= LIMIT_MAX:
            return _problem(400, "bad_request")
        after = int(query.get("cursor") or 0)
        rows = [
            row
            for row in self._network.transactions_of(record.sequence)
            if _toid(row) > after and (row.successful or query.get("include_failed") == "true")
        ]
        return JSONResponse({"_embedded": {"records": [self._show(row) for row in rows[:limit]]}})

    def _find(self, request: Request) -> LedgerRecord | Response:
        if self._network.out_of_service():
            return _problem(503, "service_unavailable")
        sequence = int(request.path_params["sequence"])
        if sequence < self._network.oldest.sequence:
            return _problem(410, "before_history")
        found = self._network.ledgers(sequence, 1)
        return found[0] if found else _problem(404, "not_found")

    def _show_ledger(self, record: LedgerRecord) -> dict[str, Any]:
        rows = self._network.transactions_of(record.sequence)
        header = record.header.header
        return {
            "id": record.hash.hex(),
            "hash": record.hash.hex(),
            "prev_hash": header.previous_ledger_hash.hash.hex(),
            "sequence": record.sequence,
            "successful_transaction_count": sum(row.successful for row in rows),
            "failed_transaction_count": sum(not row.successful for row in rows),
            "closed_at": datetime.fromtimestamp(record.close_time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "protocol_version": header.ledger_version.uint32,
            "header_xdr": header.to_xdr(),
        }

    def _show(self, row: TxRecord) -> dict[str, Any]:
        tx_hash = row.frame.tx_hash.hex()
        fields: dict[str, Any] = {
            "id": tx_hash,
            "hash": tx_hash,
            "paging_token": str(_toid(row)),
            "successful": row.successful,
            "ledger": row.ledger,
            "envelope_xdr": row.frame.envelope.to_xdr(),
            "result_xdr": row.result.to_xdr(),
            "fee_meta_xdr": row.processing.fee_processing.to_xdr(),
        }
        if not self._network.misbehaviour.faults.horizon_without_meta:
            fields["result_meta_xdr"] = row.processing.tx_apply_processing.to_xdr()
        return fields


def horizon_routes(network: LocalNetwork) -> list[Route]:
    """Where the resources are found."""
    handlers = _Horizon(network)
    return [
        Route("/", handlers.root),
        Route("/ledgers/{sequence:int}", handlers.ledger),
        Route("/ledgers/{sequence:int}/transactions", handlers.transactions),
    ]


def _toid(row: TxRecord) -> int:
    """Source: SEP-35."""
    return row.ledger << 32 | row.order << 12


def _problem(status: int, kind: str) -> JSONResponse:
    body = {"type": f"https://stellar.org/horizon-errors/{kind}", "title": kind, "status": status}
    return JSONResponse(body, status_code=status)
