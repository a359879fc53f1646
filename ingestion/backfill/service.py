"""Which ranges of history are read beside the live loop, and why no block falls between the two.

An account is *registered* in a transaction R, which writes the account and, by the database function `request_history`, a
backfill whose last height is open. The live loop, holder of the chain's fence and the only one who moves the cursor, begins each
step thus: (1) it reads the cursor P; (2) `take_notice` closes every open range that it sees at last = P; (3) only then it
fetches, and only after the fetch it asks which accounts are ours; (4) it books blocks P+1, P+2, … each with its own transaction.

Claim: whenever R commits, each block is booked with the account's facts, by the live loop or by the backfill.
- R commits before (2) sees it: the question in (3) comes later, so it sees the account too. Blocks above P are booked live, with
  the account's facts; blocks up to P are the backfill's. Nothing between.
- R commits later, say between the question in (3) and the booking in (4), when the fetched facts lack the account: the range
  stays open, and is closed at the start of a later step, at a cursor P' that is not below any block that was booked without the
  account. Blocks up to P' are the backfill's, blocks above are fetched after R.
- Both may book the same block. A deposit's id and place follow from what arrived, a transaction is known by its hash: the second
  finds what the first wrote and changes nothing.
- The worker dies anywhere: an open range stays open, and the next worker's first step closes it. A worker that lost its fence
  can neither close a range nor book.
- A reorganisation below a closed range's end: the blocks above the fork are booked anew by the live loop, after R. A chunk is
  booked while the cursor is held, and only if its hashes are those of our record.

The lowest height of a range: a new key was asked for at a moment before which nobody can have paid it, so the newest block
closed before that moment ends what need not be read. Without such a moment it is the horizon: the lowest block that is read for
every vault. A backfill for every vault that is ordered after a range was closed books its chunks after R, with the account.
"""

from __future__ import annotations

from itertools import pairwise

from custody.db.session import Database, ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from ingestion import cursor
from ingestion.backfill import store
from ingestion.backfill.model import EVERY_VAULT, Backfill
from ingestion.errors import BackfillOverlaps, BadRange
from ingestion.reorg import Position

BEFORE_THE_FIRST = -1
"""Where a range ends that is closed before the chain's first block was booked: it is empty."""


async def take_notice(db: Database, chain: ChainId, fence: int, position: Position | None) -> None:
    """Close the ranges of accounts registered since, at the live loop's position. Called before it fetches. Raises FenceLost.

    Idempotent: a closed range is left alone.
    """
    async with db.read(None) as session:
        if not await store.count_unnoticed(session, chain):
            return
    async with db.unit_of_work(None) as uow:
        await cursor.hold_fence(uow, chain, fence)
        await store.close_ranges(uow, chain, BEFORE_THE_FIRST if position is None else position.height)


async def order(
    uow: UnitOfWork, chain: ChainId, account: str, first: int, last: int, *, again: bool = False
) -> Backfill:
    """A bounded backfill: a new one, or the one that was ordered with the same range and account, done or not.

    `again` reads a range anew that is done, as after an asset was listed. Raises BadRange for an empty range or one that reaches
    above the cursor, BackfillOverlaps when another unfinished one covers a part. Locks the chain's orders.
    """
    if not 0 <= first <= last:
        raise BadRange(chain=chain, first=first, last=last)
    await uow.lock(f"ingestion/backfills/{chain}")
    position = await cursor.load(uow, chain)
    if position is not None and last > position.height:
        raise BadRange(chain=chain, last=last, cursor=position.height)
    known = await store.find_ordered(uow, chain, account)
    for each in known:
        same = (each.first, each.last) == (first, last)
        if not each.is_done and not same and each.first <= last and first <= each.last:
            raise BackfillOverlaps(chain=chain, first=each.first, last=each.last, next=each.next)
    for each in reversed(known):
        if (each.first, each.last) == (first, last) and not (again and each.is_done):
            return each
    return await store.insert_ordered(uow, chain, account, first, last)


async def find_open(session: ReadSession, chain: ChainId) -> list[Backfill]:
    """The chain's backfills that are not done, oldest first."""
    return await store.find_open(session, chain)


async def count_unnoticed(session: ReadSession, chain: ChainId) -> int:
    """Registrations that wait for the live loop to close their range."""
    return await store.count_unnoticed(session, chain)


async def covered(session: ReadSession, chain: ChainId) -> list[tuple[int, int]]:
    """The ranges of blocks that are booked for every vault, lowest first. One range: no hole."""
    return await store.covered(session, chain)


async def holes(session: ReadSession, chain: ChainId) -> list[tuple[int, int]]:
    """Ranges between the covered ones that nobody has ordered either, lowest first."""
    parts = await store.covered(session, chain, ordered=True)
    return [(below[1] + 1, above[0] - 1) for below, above in pairwise(parts)]


def scope_of(backfill: Backfill) -> str:
    """Whose history, in words."""
    return "every vault" if backfill.account == EVERY_VAULT else backfill.account
