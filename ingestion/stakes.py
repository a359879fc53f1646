"""What our books have of a branch that the chain has left: what a person looks at before deciding about a halt."""

from __future__ import annotations

from dataclasses import dataclass

from custody.db.session import ReadSession
from custody.deposits import service as deposits
from custody.deposits.model import Deposit
from custody.holdings.model import ChainHalt
from custody.identity import service as identity
from custody.kernel.ids import TenantId
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Stakes:
    """One tenant's bookings above the fork."""

    tenant: TenantId
    """Whose books."""
    deposits: tuple[Deposit, ...]
    """Credited, suspended or paid back; those marked as lost among them."""
    attempts: tuple[Attempt, ...]
    """Transactions of ours that ended there. Their bytes stay valid; where the other branch does not have them, they are to be
    sent again."""


async def load_stakes(session: ReadSession, halt: ChainHalt) -> list[Stakes]:
    """What each tenant has booked of blocks above the fork; tenants without anything are left out."""
    found = []
    for tenant in await identity.list_tenants(session):
        await session.act_for(tenant)
        chain, fork = halt.fork.chain, halt.fork.fork_height
        booked = await deposits.list_booked_above(session, chain, fork)
        ended = await withdrawals.list_ended_above(session, chain, fork)
        if booked or ended:
            found.append(Stakes(tenant=tenant, deposits=tuple(booked), attempts=tuple(ended)))
    return found
