"""Ledgers of a Stellar network through Stellar RPC's getLedgers. Source: Stellar RPC v28."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence

from custody.chains.errors import RpcRefused, RpcUnreadable
from custody.chains.jsonrpc import JsonRpc, require_dict, require_int, require_list, require_str
from custody.chains.ports import Head
from custody.chains.stellar.rpc import StellarRpc
from custody.kernel.assetid import ChainId
from ingestion.errors import HistoryLost, InconsistentNode
from ingestion.model import BlockFacts
from ingestion.ports import Watch
from ingestion.stellar.movements import EventReader
from ingestion.stellar.normalize import named_holders, normalize
from ingestion.stellar.scan.ledger import ScannedLedger, scan_ledger

BATCH_LEDGERS = 10
"""Ledgers of one fetch: a few megabytes on pubnet, a fraction of the call's timeout."""


class RpcLedgers:
    """Closed ledgers, scanned, as far as they concern us. A `ChainSource`."""

    def __init__(
        self, chain: ChainId, rpc: JsonRpc, reader: EventReader, watch: Watch, *, audit: bool = False
    ) -> None:
        """`watch` tells which accounts are vaults: only their transactions are read. An audit reads and proves all."""
        self._chain = chain
        self._rpc = rpc
        self._client = StellarRpc(chain, rpc, reader.network_passphrase)
        self._reader = reader
        self._watch = watch
        self._audit = audit

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        return self._chain

    @property
    def reorganises(self) -> bool:
        """A closed ledger is final (SCP): a broken hash chain means a broken node."""
        return False

    @property
    def batch_max(self) -> int:
        """Ledgers of one fetch."""
        return BATCH_LEDGERS

    async def verify_network(self) -> None:
        """Compare the node's passphrase with ours. Raises WrongNetwork."""
        await self._client.verify_network()

    async def head(self) -> Head:
        """The newest closed ledger."""
        return await self._client.head()

    async def oldest(self) -> int:
        """The oldest ledger within the node's retention window."""
        method = "getHealth"
        answer = require_dict(method, await self._rpc.call(method, {}))
        return require_int(method, answer.get("oldestLedger"))

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        """Ledgers from `first` on. Raises HistoryLost when the node no longer has it, UnprovedTransaction in an audit."""
        method = "getLedgers"
        limit = min(last - first + 1, BATCH_LEDGERS)
        params = {"startLedger": first, "pagination": {"limit": limit}}
        try:
            answer = require_dict(method, await self._rpc.call(method, params))
        except RpcRefused:
            # The node refuses a start outside of its window; below the window, waiting does not help.
            oldest = await self.oldest()
            if first < oldest:
                raise HistoryLost(chain=self._chain, wanted=first, oldest=oldest) from None
            raise
        rows = [require_dict(method, row) for row in require_list(method, answer.get("ledgers"))][:limit]
        # A ledger takes some hundredths of a second: in a thread, so that signals and health stay answered.
        ledgers, named = await asyncio.to_thread(
            _scan, [require_str(method, row.get("metadataXdr")) for row in rows]
        )
        for offset, each in enumerate(ledgers):
            if each.height != first + offset:
                raise InconsistentNode(chain=self._chain, wanted=first + offset, got=each.height)
        # Asked after the fetch: what was paid to a vault in these ledgers was paid after the vault was there.
        ours = await self._watch(named) if named else frozenset[str]()
        return await asyncio.to_thread(self._normalize, ledgers, ours)

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        """The hashes of closed ledgers, by the node's own account. For operators; the loop asks only chains that reorganise."""
        method = "getLedgers"
        found: dict[int, str] = {}
        for height in heights:
            params = {"startLedger": height, "pagination": {"limit": 1}}
            answer = require_dict(method, await self._rpc.call(method, params))
            for row in require_list(method, answer.get("ledgers")):
                fields = require_dict(method, row)
                found[require_int(method, fields.get("sequence"))] = require_str(method, fields.get("hash"))
        return {height: found[height] for height in heights if height in found}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._rpc.aclose()

    def _normalize(self, ledgers: Sequence[ScannedLedger], ours: frozenset[str]) -> list[BlockFacts]:
        return [normalize(each, self._chain, self._reader, ours, audit=self._audit) for each in ledgers]


def _scan(metas: Sequence[str]) -> tuple[list[ScannedLedger], frozenset[str]]:
    """The ledgers, and everybody whom they name."""
    ledgers = [scan_ledger(_unbase64(meta)) for meta in metas]
    return ledgers, frozenset[str]().union(*map(named_holders, ledgers))


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise RpcUnreadable(method="getLedgers", reason="metadataXdr is not base64") from error
