"""Follow one chain: fetch with no transaction open, book each block in one, settle what became final, wait, again.

The loop is the same for every chain. It stops for a broken invariant, and only waits when a node or the database is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from custody.chains.ports import Head
from custody.db.session import Database
from custody.holdings.halts import FOLLOWING
from custody.holdings.model import ChainHalt
from custody.kernel.errors import Unavailable
from ingestion import cursor, effects, halting, settling
from ingestion.backfill import service as backfills
from ingestion.backoff import backoff
from ingestion.errors import BrokenHashChain, InconsistentNode, ReorgTooDeep
from ingestion.finality import Standing, Terms
from ingestion.health import Status
from ingestion.judging import Finality
from ingestion.metrics import Metrics
from ingestion.model import BlockFacts, BlockRef
from ingestion.news import News
from ingestion.pause import pause
from ingestion.ports import ChainSource, Vouching
from ingestion.reorg import Position, continues, fork_point
from ingestion.retry import may_retry
from ingestion.rhythm import Rhythm

FORK_SEARCH_BLOCKS = 32
"""How many of our blocks are compared with the node's at once."""
FORK_SEARCH_MAX = 4096
"""How deep a reorganisation is followed."""

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class Stopped(Exception):
    """The process was asked to end while it waited for the network; nothing was open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a chain is followed."""

    terms: Terms
    """When blocks are final."""
    start_height: int
    """First block on an empty cursor; 0 for the oldest that the node has."""
    poll_interval_s: float
    """How long to wait at the tip, where nothing tells when the next block is due."""


def quiet_together(facts: Sequence[BlockFacts]) -> list[list[BlockFacts]]:
    """Blocks as they are booked: those that continue each other and name nobody of ours in runs, for one transaction each; all
    others alone, so that one that cannot be booked takes no other with it. Pure.

    The transaction's commit is most of what a block costs that is only to be recorded."""
    runs: list[list[BlockFacts]] = []
    for each in facts:
        below = runs[-1][-1] if runs else None
        if below is None or below.accounts() or each.accounts() or not continues(_place(below.ref), each.ref):
            runs.append([each])
        else:
            runs[-1].append(each)
    return runs


def _place(block: BlockRef) -> Position:
    return Position(height=block.height, hash=block.hash)


class Loop:
    """Follows one chain for a worker that holds its fence."""

    def __init__(
        self,
        *,
        db: Database,
        source: ChainSource,
        pace: Pace,
        fence: int,
        stop: asyncio.Event,
        metrics: Metrics,
        status: Status,
        news: News | None = None,
    ) -> None:
        """`stop` ends the loop after the transaction at hand; `news` of new blocks ends its waiting at the tip."""
        self._db = db
        self._source = source
        self._chain = source.chain
        self._pace = pace
        self._fence = fence
        self._stop = stop
        self._metrics = metrics
        self.status = status
        self._news = news
        self._rhythm = Rhythm(pace.poll_interval_s)
        vouching = source if isinstance(source, Vouching) else None
        self._finality = Finality(db, source.chain, pace.terms, vouching, metrics)
        self._settled: tuple[Position, Standing] | None = None

    async def run(self) -> None:
        """Follow the chain until told to stop. Raises the broken invariant that ends it."""
        failures = 0
        clock = asyncio.get_running_loop()
        while not self._stop.is_set():
            asked_at = clock.time()
            try:
                moved = await self.step()
            except Stopped:
                return
            except (Unavailable, DBAPIError, OSError) as error:
                if not may_retry(error):
                    raise
                failures += 1
                self._metrics.retried()
                _log.warning("ingestion.retry", chain=self._chain, failures=failures, error=str(error)[:300])
                await pause(self._stop, backoff(failures))
            else:
                failures = 0
                self.status.succeeded_at = clock.time()
                if moved:
                    self._rhythm.found(asked_at)
                else:
                    await self._wait_for_news()
            self.status.ended_step_at = clock.time()

    async def step(self) -> bool:
        """One batch, one rewind, or the news that there is nothing new. Returns whether anything moved.

        A chain that is halted does not move until a person has decided (`halting`)."""
        halt = await halting.find_halt(self._db, self._chain)
        self._note_halt(halt)
        if halt is not None and halt.state != FOLLOWING:
            return False
        async with self._db.read(None) as session:
            position = await cursor.load(session, self._chain)
            tip = None if position is None else await cursor.load_block(session, self._chain, position)
        if position is not None and halt is not None:
            return await self._rewind(position, halt)
        if tip is not None and (self._settled is None or self._settled[0] != position):
            # Something came between a block and its settling: what has been heard is enough to go on.
            await self._settle(tip, self._finality.known(tip))
        # Before the fetch: which accounts are ours is asked after it (ingestion/backfill/service.py has the argument).
        await backfills.take_notice(self._db, self._chain, self._fence, position)
        asked_at = asyncio.get_running_loop().time()
        head = await self._or_stop(self._source.head())
        if position is not None and await self._was_replaced(position, head):
            return await self._part(position, head.height, head.hash)
        first = await self._first() if position is None else position.height + 1
        facts = await self._fetch(first, head.height)
        for run in quiet_together(facts):
            if self._stop.is_set():
                break
            if not continues(position, run[0].ref):
                return await self._part(position, run[0].ref.height, run[0].ref.hash)
            position = await self._book(position, run)
            tip = run[-1].ref
        if tip is not None:
            self._metrics.stands_at(tip.height, head.height, tip.closed_at)
            await self._settle(tip, await self._or_stop(self._finality.ask(tip)))
        if position is not None:
            self.status.stands(position.height, head.height, asked_at)
        return bool(facts)

    async def _first(self) -> int:
        return self._pace.start_height or await self._or_stop(self._source.oldest())

    async def _fetch(self, first: int, head: int) -> list[BlockFacts]:
        if first > head:
            return []
        last = min(head, first + self._source.batch_max - 1)
        return await self._or_stop(self._source.fetch(first, last))

    async def _book(self, position: Position | None, run: Sequence[BlockFacts]) -> Position:
        """One run of blocks, one transaction: the cursor's compare-and-swap and everything observed."""
        async with self._db.unit_of_work(None) as uow:
            after = await cursor.advance(uow, self._chain, self._fence, position, *(each.ref for each in run))
            tallies = [await effects.observe_block(uow, self._chain, each) for each in run]
        self.status.booked_at = asyncio.get_running_loop().time()
        for facts, tally in zip(run, tallies, strict=True):
            self._metrics.booked(tally)
            if tally != effects.Tally():
                _log.info(
                    "ingestion.booked",
                    chain=self._chain,
                    height=facts.ref.height,
                    deposits=tally.deposits,
                    transactions=tally.transactions,
                )
        return after

    async def _settle(self, tip: BlockRef, standing: Standing) -> None:
        """Book what is final at this tip, once for each tip and all that has been heard of it."""
        position = _place(tip)
        if self._settled != (position, standing):
            settled = await settling.settle(self._db, self._chain, self._fence, tip, standing)
            self._metrics.settled(settled)
            self._settled = position, standing

    async def _wait_for_news(self) -> None:
        """At the tip: until the next block is likely to be there, or somebody says that there is one."""
        if self._news is None:
            await pause(self._stop, self._rhythm.wait_s(asyncio.get_running_loop().time()))
        else:
            await self._news.wait(self._stop, self._pace.poll_interval_s)

    async def _was_replaced(self, position: Position, head: Head) -> bool:
        """Whether the node's newest block, where it is not above ours, is another one than ours at its height."""
        if head.height > position.height:
            return False
        if head.height == position.height:
            return head.hash != position.hash
        async with self._db.read(None) as session:
            kept = await cursor.kept_blocks(session, self._chain, up_to=head.height, limit=1)
        return kept.get(head.height, head.hash) != head.hash

    async def _part(self, position: Position | None, height: int, block_hash: str) -> bool:
        """A block does not continue ours: rewind where chains reorganise, stop where they do not. Returns whether it moved."""
        if position is None or not self._source.reorganises:
            raise BrokenHashChain(
                chain=self._chain,
                height=height,
                block=block_hash,
                our_height=None if position is None else position.height,
                ours=None if position is None else position.hash,
            )
        return await self._rewind(position, None)

    async def _rewind(self, position: Position, halt: ChainHalt | None) -> bool:
        """Find the fork point over the network, then go back to it in one transaction, or halt. Returns whether it moved."""
        head = await self._or_stop(self._source.head())
        fork = await self._find_fork(position)
        if fork == position:
            if halt is None:
                raise InconsistentNode(chain=self._chain, height=position.height, reason="our block is back")
            await halting.end_returned(self._db, self._chain, halt)
            return True
        rewound = await halting.go_back(self._db, self._chain, self._fence, position, fork, head, halt)
        if rewound is None:
            self._note_halt(await halting.find_halt(self._db, self._chain))
            return False
        self._settled = None
        self._finality.rewound(fork.height)
        self._metrics.rewound()
        _log.warning(
            "ingestion.rewound",
            chain=self._chain,
            height=position.height,
            fork=fork.height,
            deposits=rewound.deposits,
        )
        return True

    def _note_halt(self, halt: ChainHalt | None) -> None:
        self.status.halted = halt is not None
        self._metrics.halted(self.status.halted)

    async def _find_fork(self, position: Position) -> Position:
        """The highest block of ours that the node still has. Raises ReorgTooDeep."""
        up_to = position.height
        for _ in range(FORK_SEARCH_MAX // FORK_SEARCH_BLOCKS):
            async with self._db.read(None) as session:
                kept = await cursor.kept_blocks(session, self._chain, up_to=up_to, limit=FORK_SEARCH_BLOCKS)
            if not kept:
                break
            fork = fork_point(kept, await self._or_stop(self._source.hashes(sorted(kept))))
            if fork is not None:
                return fork
            up_to = min(kept) - 1
        raise ReorgTooDeep(chain=self._chain, height=position.height)

    async def _or_stop(self, call: Awaitable[_T]) -> _T:
        """The call's answer, or Stopped when the process is asked to end first: nothing is open meanwhile."""
        task = asyncio.ensure_future(call)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not task.done():
                task.cancel()
        if task.cancelled() or not task.done():
            await asyncio.gather(task, return_exceptions=True)
            raise Stopped
        return task.result()
