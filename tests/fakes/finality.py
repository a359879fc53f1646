"""What ingestion does when a height has become final, for tests of one context alone."""

from __future__ import annotations

from custody.db.session import UnitOfWork
from custody.deposits import service as deposits
from custody.deposits.telling import ACTOR
from custody.kernel.assetid import ChainId
from custody.ledger import service as ledger
from custody.returns import service as returns
from custody.withdrawals import service as withdrawals


async def credit_final(uow: UnitOfWork, chain: ChainId, height_final: int) -> int:
    """Book the deposits of final blocks. Returns how many."""
    booking = await deposits.find_final(uow, chain, height_final)
    if booking.commands:
        await ledger.post(uow, *booking.commands)
    await deposits.book(uow, booking)
    return len(booking.deposits)


async def lapse_due(uow: UnitOfWork, chain: ChainId, height_final: int) -> None:
    """End the withdrawals that final blocks decide."""
    ending = await withdrawals.find_final(uow, chain, height_final)
    if ending.commands:
        await ledger.post(uow, *ending.commands)
    await withdrawals.end(uow, ending)
    await returns.settle(uow, ACTOR, [each for each, attempt in ending.included if attempt.succeeded])
