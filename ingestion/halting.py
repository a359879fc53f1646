"""A chain that left our record below what was final: stop, wait for a person, then do what was decided. And what is told of a
worker that ends for a broken invariant.

While a chain is halted nothing of it is fetched, credited or confirmed, and its cursor stands. Going back is done by the worker
that holds the chain, in one transaction with the cursor and the books.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from sqlalchemy.exc import DBAPIError

from custody.chains.ports import Head
from custody.db.session import Database, ReadSession
from custody.deposits import service as deposits
from custody.deposits.errors import CreditSpent
from custody.holdings import halts, sending
from custody.holdings.model import ChainHalt, Fork
from custody.identity import service as identity
from custody.kernel.assetid import ChainId
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import TenantId
from ingestion import cursor, effects
from ingestion.reorg import Position

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewound:
    """What going back came to."""

    deposits: int
    """Deposits that were touched."""


async def find_halt(db: Database, chain: ChainId) -> ChainHalt | None:
    """The chain's halt that has not ended."""
    async with db.read(None) as session:
        return await halts.find_open(session, chain)


async def tell_broken(db: Database, chain: ChainId, fence: int, broken: InvariantViolated) -> None:
    """The worker ends for this: nothing new is sent on the chain until a worker is at its tip again. Never raises: where the
    database is away, nothing can be sent either, and a chain that nobody follows holds sending back before long."""
    try:
        async with db.unit_of_work(None) as uow:
            await sending.note_stopped(uow, chain, fence, broken.code)
    except (DBAPIError, OSError) as error:
        _log.warning("ingestion.stop_untold", chain=chain, error=str(error)[:300])


async def final_anywhere(session: ReadSession, chain: ChainId, tenants: list[TenantId]) -> int:
    """Up to where the chain is final to some tenant; -1 for none."""
    reached = -1
    for tenant in tenants:
        await session.act_for(tenant)
        found = await deposits.final_height(session, chain)
        reached = max(reached, -1 if found is None else found.height)
    return reached


async def go_back(
    db: Database,
    chain: ChainId,
    fence: int,
    position: Position,
    fork: Position,
    seen: Head,
    halt: ChainHalt | None,
) -> Rewound | None:
    """Go back to the fork point, or halt the chain: when that is below what was final and no decision covers it, or takes back
    money that is spent. None: halted.

    One transaction for cursor, observations, books, holdings and the halt.
    """
    async with db.read(None) as session:
        block = await cursor.load_block(session, chain, fork)
        tenants = await identity.list_tenants(session)
        final = await final_anywhere(session, chain, tenants)
    parted = Fork(
        chain=chain,
        fork_height=fork.height,
        fork_hash=fork.hash,
        our_height=position.height,
        our_hash=position.hash,
        final_height=final,
        seen_height=seen.height,
        seen_hash=seen.hash,
    )
    is_deep = fork.height < final
    if is_deep and (halt is None or fork.height < halt.fork.fork_height):
        await _halt(
            db, tenants, halt, parted, "" if halt is None else "the chain leaves our record further down"
        )
        return None
    try:
        async with db.unit_of_work(None) as uow:
            await cursor.rewind(uow, chain, fence, position, fork)
            marks_spent = halt is not None and halt.marks_spent
            touched = await effects.take_back(uow, chain, tenants, block, marks_spent=marks_spent)
            if halt is not None:
                await halts.resume(uow, tenants, halt)
    except CreditSpent as error:
        # Also where a deposit that was lost is found again and replaced again, above what is final.
        await _halt(db, tenants, halt, parted, str(error))
        return None
    return Rewound(deposits=touched)


async def end_returned(db: Database, chain: ChainId, halt: ChainHalt) -> None:
    """The node's chain is ours again: nothing is to be taken back."""
    async with db.unit_of_work(None) as uow:
        await halts.end_returned(uow, await identity.list_tenants(uow), halt)
    _log.warning("ingestion.halt_returned", chain=chain)


async def _halt(
    db: Database, tenants: list[TenantId], halt: ChainHalt | None, fork: Fork, trouble: str
) -> None:
    async with db.unit_of_work(None) as uow:
        if halt is None:
            await halts.open_halt(uow, tenants, fork, trouble)
        else:
            await halts.refuse(uow, tenants, halt, fork, trouble)
    _log.critical(
        "ingestion.halted",
        chain=fork.chain,
        fork=fork.fork_height,
        final=fork.final_height,
        height=fork.our_height,
        seen=fork.seen_height,
        trouble=trouble,
    )
