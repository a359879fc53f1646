"""Ledgers of a Stellar network put together from what Horizon tells: for those who have neither Stellar RPC's ledgers nor a lake.

Horizon keeps no ledgers, but rows: a ledger's header, and per transaction its envelope, result, fee changes and meta. From these
a LedgerCloseMeta is assembled and read like any other: the header's hash, the chain of hashes and that of all results hold, so
no transaction is missing or added; what touches us is proved by its entries. Its payments stream is not read: it knows neither
fees, trades, claims nor what contracts move, and nothing would show that it left something out.

It is trusted less. What follows all transactions (refunds of contracts' fees) Horizon does not tell, so a contract call that one
of our accounts paid for cannot be proved and stops the worker; and a server without `result_meta_xdr` (SKIP_TXMETA) is refused.
Source: Horizon's resources Root, Ledger and Transaction; Stellar-ledger.x (LedgerCloseMetaV0).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import Any

import httpx
import orjson

from custody.chains.errors import RpcRefused, RpcUnreachable, RpcUnreadable, WrongNetwork
from custody.chains.jsonrpc import require_dict, require_int, require_list, require_str
from custody.chains.ports import Head
from custody.kernel.assetid import ChainId
from ingestion.errors import HistoryLost, InconsistentNode, Unprovable
from ingestion.model import BlockFacts
from ingestion.stellar.read import LedgerReader

LEDGERS_MAX = 4
"""Ledgers of one fetch, asked for side by side: two requests or more for each, of an hour's 3,600."""
PAGE = 200
"""The most transactions that Horizon gives at once."""
PAGES_MAX = 100
"""No ledger has more: beyond it the server leads us around."""
BODY_MAX_BYTES = 64 * 1024 * 1024
"""A longer answer is not read on."""


class HorizonLedgers:
    """Closed ledgers, scanned, as far as they concern us. A `ChainSource` of lower trust."""

    def __init__(self, url: str, reader: LedgerReader, *, timeout_s: float, page: int = PAGE) -> None:
        """`url` is the server's root. Paging is by cursor; streams have no heartbeat and would have to be watched themselves."""
        self._page = page
        self._url = url.rstrip("/")
        self._reader = reader
        self._http = httpx.AsyncClient(timeout=timeout_s, trust_env=False, follow_redirects=False)

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        return self._reader.chain

    @property
    def reorganises(self) -> bool:
        """A closed ledger is final (SCP)."""
        return False

    @property
    def batch_max(self) -> int:
        """Ledgers of one fetch."""
        return LEDGERS_MAX

    async def verify_network(self) -> None:
        """Compare the server's passphrase with ours. Raises WrongNetwork."""
        passphrase = (await self._get("/")).get("network_passphrase")
        if passphrase != self._reader.network_passphrase:
            raise WrongNetwork(chain=self.chain, node=str(passphrase)[:100])

    async def head(self) -> Head:
        """The newest ledger that the server has taken in whole."""
        height = require_int("/", (await self._get("/")).get("history_latest_ledger"))
        return Head(height=height, hash=(await self.hashes([height]))[height])

    async def oldest(self) -> int:
        """The oldest ledger that the server keeps."""
        return require_int("/", (await self._get("/")).get("history_elder_ledger"))

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        """Ledgers from `first` on. Raises HistoryLost, Unprovable when the server tells no meta, and what the reader raises."""
        last = min(last, first + LEDGERS_MAX - 1)
        answers = await asyncio.gather(
            *(self._assemble(height) for height in range(first, last + 1)), return_exceptions=True
        )
        metas: list[bytes] = []
        for each in answers:
            if isinstance(each, RpcRefused) and metas:
                # Not closed yet.
                break
            if isinstance(each, BaseException):
                raise each
            metas.append(each)
        return await self._reader.read(metas, first)

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        """The hashes of closed ledgers, by the server's own account."""
        found = {}
        for height in heights:
            path = f"/ledgers/{height}"
            found[height] = require_str(path, (await self._get(path)).get("hash"))
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _assemble(self, height: int) -> bytes:
        """One LedgerCloseMeta of the server's rows."""
        path = f"/ledgers/{height}"
        ledger = await self._get(path)
        counts = [ledger.get(f"{kind}_transaction_count") for kind in ("successful", "failed")]
        count = sum(require_int(path, each) for each in counts)
        rows = await self._transactions(path) if count else []
        if len(rows) != count:
            # The server is still at it, or takes the ledger in again.
            raise InconsistentNode(chain=self.chain, height=height, wanted=count, got=len(rows))
        header = bytes.fromhex(_hex(path, ledger.get("hash"))) + _xdr(path, ledger, "header_xdr") + bytes(4)
        # The transaction set names its parent once more; nobody reads it there.
        envelopes = bytes(32) + _many([_xdr(path, row, "envelope_xdr") for row in rows])
        processed = _many([_processed(path, row) for row in rows])
        return bytes(4) + header + envelopes + processed + _many([]) + _many([])

    async def _transactions(self, path: str) -> list[dict[str, Any]]:
        """All transactions of a ledger in the order in which they were applied, failed ones too."""
        rows: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(PAGES_MAX):
            query = f"?include_failed=true&order=asc&limit={self._page}" + (cursor and f"&cursor={cursor}")
            answer = await self._get(f"{path}/transactions{query}")
            page = require_list(path, require_dict(path, answer.get("_embedded")).get("records"))
            rows += [require_dict(path, row) for row in page]
            if len(page) < self._page:
                return rows
            cursor = require_str(path, rows[-1].get("paging_token"))
            if not cursor.isascii() or not cursor.isdigit():
                raise RpcUnreadable(method=path, reason="a paging token that is no number")
        raise RpcUnreadable(method=path, reason="pages without an end")

    async def _get(self, path: str) -> dict[str, Any]:
        method = path.partition("?")[0]
        try:
            async with self._http.stream("GET", self._url + path) as response:
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > BODY_MAX_BYTES:
                        raise RpcUnreadable(method=method, reason="the answer is too long")
        except httpx.HTTPError as error:
            raise RpcUnreachable(method=method, reason=type(error).__name__) from error
        match response.status_code:
            case 200:
                pass
            case 404:
                raise RpcRefused(method=method, rpc_code=404, rpc_message="not found")
            case 410:
                raise HistoryLost(chain=self.chain, wanted=method, reason="before the server's history")
            case status:
                raise RpcUnreachable(method=method, reason=f"HTTP {status}")
        try:
            return require_dict(method, orjson.loads(body))
        except orjson.JSONDecodeError as error:
            raise RpcUnreadable(method=method, reason="no JSON") from error


def _processed(path: str, row: dict[str, Any]) -> bytes:
    """A TransactionResultMeta: the result under its hash, the fee's changes, the meta. Raises Unprovable without meta."""
    tx_hash = _hex(path, row.get("hash"))
    if not row.get("result_meta_xdr"):
        raise Unprovable(tx_hash=tx_hash, reason="Horizon gives no result_meta_xdr")
    result = bytes.fromhex(tx_hash) + _xdr(path, row, "result_xdr")
    return result + _xdr(path, row, "fee_meta_xdr") + _xdr(path, row, "result_meta_xdr")


def _many(values: Sequence[bytes]) -> bytes:
    return len(values).to_bytes(4, "big") + b"".join(values)


def _xdr(path: str, row: dict[str, Any], name: str) -> bytes:
    try:
        return base64.b64decode(require_str(path, row.get(name)), validate=True)
    except binascii.Error as error:
        raise RpcUnreadable(method=path, reason=f"{name} is not base64") from error


def _hex(path: str, value: object) -> str:
    text = require_str(path, value)
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise RpcUnreadable(method=path, reason="a hash that is none")
    return text
