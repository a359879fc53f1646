"""From the bytes of closed ledgers to the facts of blocks, for every source of ledgers alike."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from custody.kernel.assetid import ChainId
from ingestion.errors import InconsistentNode
from ingestion.model import BlockFacts
from ingestion.ports import Watch
from ingestion.stellar.movements import EventReader
from ingestion.stellar.normalize import named_holders, normalize
from ingestion.stellar.scan.ledger import ScannedLedger, scan_ledger


class LedgerReader:
    """Reads what ledgers did to our accounts, and proves it; an audit reads and proves everybody's."""

    def __init__(self, chain: ChainId, events: EventReader, watch: Watch, *, audit: bool = False) -> None:
        """`watch` tells which of the accounts that the ledgers name are vaults."""
        self.chain = chain
        self.network_passphrase = events.network_passphrase
        self._events = events
        self._watch = watch
        self._audit = audit

    async def read(self, metas: Sequence[bytes], first: int) -> list[BlockFacts]:
        """The facts of ledgers that follow each other, from height `first` on, each given as one LedgerCloseMeta.

        Raises UnreadableLedger, BrokenHashChain, InconsistentNode for a ledger of another height, in an audit
        UnprovedTransaction.
        """
        # A ledger takes some hundredths of a second: in a thread, so that signals and health stay answered.
        ledgers, named = await asyncio.to_thread(_scan, metas)
        for offset, each in enumerate(ledgers):
            if each.height != first + offset:
                raise InconsistentNode(chain=self.chain, wanted=first + offset, got=each.height)
        # Asked after the fetch: what was paid to a vault in these ledgers was paid after the vault was there.
        ours = await self._watch(named) if named else frozenset[str]()
        return await asyncio.to_thread(self._normalize, ledgers, ours)

    def _normalize(self, ledgers: Sequence[ScannedLedger], ours: frozenset[str]) -> list[BlockFacts]:
        return [normalize(each, self.chain, self._events, ours, audit=self._audit) for each in ledgers]


def _scan(metas: Sequence[bytes]) -> tuple[list[ScannedLedger], frozenset[str]]:
    """The ledgers, and everybody whom they name."""
    ledgers = [scan_ledger(meta) for meta in metas]
    return ledgers, frozenset[str]().union(*map(named_holders, ledgers))
