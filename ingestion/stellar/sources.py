"""Ledgers of a Stellar network through Stellar RPC's getLedgers. Source: Stellar RPC v28."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from custody.chains.errors import RpcRefused, RpcUnreadable
from custody.chains.jsonrpc import JsonRpc, require_dict, require_int, require_list, require_str
from custody.chains.ports import Head
from custody.chains.stellar.rpc import StellarRpc
from custody.kernel.assetid import ChainId
from ingestion.errors import HistoryLost
from ingestion.model import BlockFacts
from ingestion.stellar.read import LedgerReader

BATCH_LEDGERS = 10
"""Ledgers of one fetch: a few megabytes on pubnet, a fraction of the call's timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The ledgers that a node keeps."""

    oldest: int
    newest: int
    kept: int
    """How many it is set to keep. A node that is young has fewer, and drops none yet."""

    def left(self, height: int) -> int:
        """How many ledgers may close before the node drops this one."""
        filling = max(0, self.kept - (self.newest - self.oldest + 1))
        return height - self.oldest + filling


class RpcLedgers:
    """Closed ledgers, scanned, as far as they concern us. A `ChainSource`."""

    def __init__(self, rpc: JsonRpc, reader: LedgerReader) -> None:
        """`reader` knows the network, and which accounts are ours."""
        self._chain = reader.chain
        self._rpc = rpc
        self._client = StellarRpc(reader.chain, rpc, reader.network_passphrase)
        self._reader = reader

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
        return (await self.window()).oldest

    async def window(self) -> Window:
        """What the node keeps now, and how much it will keep."""
        method = "getHealth"
        answer = require_dict(method, await self._rpc.call(method, {}))
        return Window(
            oldest=require_int(method, answer.get("oldestLedger")),
            newest=require_int(method, answer.get("latestLedger")),
            kept=require_int(method, answer.get("ledgerRetentionWindow")),
        )

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
        texts = [require_str(method, row.get("metadataXdr")) for row in rows]
        metas = await asyncio.to_thread(lambda: [_unbase64(text) for text in texts])
        return await self._reader.read(metas, first)

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        """The hashes of closed ledgers, by the node's own account: what another provider's ledgers are compared with."""
        method = "getLedgers"
        found: dict[int, str] = {}
        for first, last in _runs(sorted(set(heights))):
            params = {"startLedger": first, "pagination": {"limit": last - first + 1}}
            answer = require_dict(method, await self._rpc.call(method, params))
            for row in require_list(method, answer.get("ledgers")):
                fields = require_dict(method, row)
                found[require_int(method, fields.get("sequence"))] = require_str(method, fields.get("hash"))
        return {height: found[height] for height in heights if height in found}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._rpc.aclose()


def _runs(heights: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of heights that follow each other, none longer than one call gives."""
    begin = 0
    for place, height in enumerate(heights, start=1):
        ends = place == len(heights) or heights[place] != height + 1 or place - begin == BATCH_LEDGERS
        if ends:
            yield heights[begin], height
            begin = place


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise RpcUnreadable(method="getLedgers", reason="metadataXdr is not base64") from error
