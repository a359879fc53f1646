"""A payment waits while the books of its vault differ from the chain by more than the tenant lets pass (`holdings.stops`).

Asked twice: before signer and node are, so that nobody is troubled for what waits; and in the transaction that reserves a slot,
under a lock that a break must take, so that nothing is reserved after a break is there. What waits is not failed: it goes on by
itself when the break closes, unless its approvers' window closes first. Operations of a vault on itself, cancels of a nonce and
fee bumps are not stopped: they pay nobody, and some of them mend what is wrong.
"""

from __future__ import annotations

from custody.db.session import Database, ReadSession, UnitOfWork
from custody.holdings import stops
from custody.kernel.ids import TenantId
from custody.withdrawals import store
from custody.withdrawals.model import BOOKS_DIFFER, PAYING, Withdrawal
from custody.withdrawals.reservation import hold_off
from custody.withdrawals.slots import Wait

_LOOK_S = 5
"""When to look again whether the break is closed."""


async def is_stopped(session: ReadSession, withdrawal: Withdrawal) -> bool:
    """Whether a break stops it now."""
    if withdrawal.kind not in PAYING:
        return False
    return await stops.find_stop(session, (withdrawal.vault_id, withdrawal.asset)) is not None


async def wait_if_stopped(db: Database, tenant: TenantId, withdrawal: Withdrawal) -> bool:
    """Have it wait if it is still stopped. Returns whether another step may follow at once: it is not stopped any more."""
    async with db.unit_of_work(tenant) as uow:
        locked = await store.lock_withdrawal(uow, withdrawal.id)
        if locked is None or locked.state != withdrawal.state:
            return True
        return not await holds_back(uow, locked)


async def holds_back(uow: UnitOfWork, withdrawal: Withdrawal) -> bool:
    """Whether a break stops it; then it waits and says why. Until the transaction ends, no break can come between. The caller has
    locked the withdrawal."""
    if withdrawal.kind not in PAYING:
        return False
    if await stops.demand(uow, (withdrawal.vault_id, withdrawal.asset)) is None:
        return False
    await hold_off(uow, withdrawal, Wait(reason=BOOKS_DIFFER, look_in_s=_LOOK_S))
    return True
