"""One source of a network's ledgers: the lake for what is old, the providers' RPC at the tip.

Where the two meet, the chain of hashes is what joins them: the loop books no ledger that does not stand on the one before,
wherever either came from. So neither a switch nor a restart can leave one out or take one twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from custody.chains.ports import Head
from custody.kernel.assetid import ChainId
from custody.kernel.errors import Unavailable
from ingestion.errors import (
    BrokenHashChain,
    HistoryLost,
    LakeBehind,
    LakeGap,
    LakeUnreachable,
    UnreadableLedger,
)
from ingestion.failover import GRACE_S, Failover
from ingestion.metrics import Metrics
from ingestion.model import BlockFacts
from ingestion.stellar.lake import LakeLedgers
from ingestion.stellar.sources import RpcLedgers, Window

WINDOW_EVERY_S = 30.0
"""How often the providers are asked what they still keep."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When history is read from where, and when its end is an alarm."""

    behind_ledgers: int
    """The lake is read while more ledgers than this are missing to the tip."""
    alarm_percent: int
    """Share of a provider's window below which it is an alarm that the next ledger will soon be dropped."""


class HistoryThenTip:
    """A `ChainSource` of a lake, if there is one, and providers."""

    def __init__(
        self,
        tip: Failover[RpcLedgers],
        keepers: Sequence[RpcLedgers],
        lake: LakeLedgers | None,
        terms: Terms,
        metrics: Metrics,
    ) -> None:
        """`keepers` are the providers behind `tip`: asked what they keep."""
        self._tip = tip
        self._keepers = keepers
        self._lake = lake
        self._terms = terms
        self.metrics = metrics
        self._head = 0
        self._windows: list[Window] = []
        self._asked_at: float | None = None
        self._asking: asyncio.Future[list[Window | BaseException]] | None = None
        self._alarmed = False

    @property
    def chain(self) -> ChainId:
        """The CAIP-2 id of the chain."""
        return self._tip.chain

    @property
    def reorganises(self) -> bool:
        """A closed ledger is final (SCP)."""
        return False

    @property
    def batch_max(self) -> int:
        """What every source gives at once."""
        return self._tip.batch_max

    async def verify_network(self) -> None:
        """Ask everybody. Raises WrongNetwork, LakeUnusable. A lake that is away is asked again before it is read."""
        await self._tip.verify_network()
        if self._lake is not None:
            try:
                await self._lake.verify_network()
            except LakeUnreachable as error:
                _log.error("ingestion.lake_away", chain=self.chain, error=str(error))

    async def head(self) -> Head:
        """The newest closed ledger."""
        head = await self._tip.head()
        self._head = head.height
        return head

    async def oldest(self) -> int:
        """The oldest ledger of the lake where there is one; else of the providers."""
        return await (self._tip if self._lake is None else self._lake).oldest()

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        """Ledgers from `first` on. Raises HistoryLost when nobody keeps it any more."""
        oldest = await self._look_back(first)
        if self._lake is not None and (first < oldest or self._head - first > self._terms.behind_ledgers):
            facts = await self._from_lake(self._lake, first, last, oldest)
            if facts is not None:
                return facts
        try:
            facts = await self._tip.fetch(first, last)
        except HistoryLost:
            if self._lake is None:
                raise
            # The providers dropped it since they were asked what they keep.
            return await self._from_lake(self._lake, first, last, last + 1) or []
        self.metrics.fetched("rpc", len(facts))
        return facts

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        """What the provider says that is read from now."""
        return await self._tip.hashes(heights)

    async def aclose(self) -> None:
        """Close the connections of all."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
        await self._tip.aclose()
        if self._lake is not None:
            await self._lake.aclose()

    async def _from_lake(
        self, lake: LakeLedgers, first: int, last: int, oldest: int
    ) -> list[BlockFacts] | None:
        """The lake's ledgers; None when it cannot give them and a provider, which keeps those from `oldest` on, can.

        Where they reach into what providers keep, the newest is compared with theirs: it speaks for all below it.
        """
        try:
            facts = await lake.fetch(first, last)
        except (LakeBehind, LakeGap, LakeUnreachable, UnreadableLedger, BrokenHashChain) as error:
            if first < oldest:
                # Nobody else keeps it. A lake that is away or still grows is waited for; a hole in it stops the worker.
                raise
            self.metrics.lake_failed()
            _log.error("ingestion.lake_passed_over", chain=self.chain, height=first, error=str(error))
            return None
        if facts[-1].ref.height >= oldest:
            facts = await self._tip.agree("lake", facts)
        self.metrics.fetched("lake", len(facts))
        return facts

    async def _look_back(self, first: int) -> int:
        """The oldest ledger that a provider keeps. Tells when the one that is needed next is about to be dropped."""
        now = asyncio.get_running_loop().time()
        if self._asking is None and (self._asked_at is None or now - self._asked_at >= WINDOW_EVERY_S):
            self._asking = asyncio.ensure_future(
                asyncio.gather(*(each.window() for each in self._keepers), return_exceptions=True)
            )
            self._asked_at = now
        if self._asking is not None:
            # Who hangs is not waited for: then what was known before counts.
            await asyncio.wait([self._asking], timeout=GRACE_S)
            if self._asking.done():
                answers, self._asking = self._asking.result(), None
                self._windows = [each for each in answers if isinstance(each, Window)] or self._windows
                _raise_broken(answers)
        if not self._windows:
            return 0
        self._watch_retention(first)
        return min(each.oldest for each in self._windows)

    def _watch_retention(self, first: int) -> None:
        widest = max(self._windows, key=lambda each: each.left(first))
        left = widest.left(first)
        alarm = self._lake is None and left * 100 < widest.kept * self._terms.alarm_percent
        self.metrics.retention(max(0, left), alarm)
        if alarm and not self._alarmed:
            _log.error(
                "ingestion.history_expires",
                chain=self.chain,
                next_height=first,
                oldest=widest.oldest,
                ledgers_left=left,
                window=widest.kept,
            )
        self._alarmed = alarm


def _raise_broken(answers: Sequence[Window | BaseException]) -> None:
    """That a provider is away is the tip's affair; anything else must be seen."""
    for each in answers:
        if isinstance(each, BaseException) and not isinstance(each, Unavailable):
            raise each
