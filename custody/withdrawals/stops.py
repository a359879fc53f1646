"""What kill switches keep from leaving, and chains that our own ingestion does not see: asked when a withdrawal gets its slot, is
signed, and is first sent. Switches also when it is asked for: a chain that is halted goes on by itself, so requests wait.

A withdrawal that is stopped waits where it is and says so (`STOPPED`, `CHAIN_STOPS`). Without a slot it can be cancelled, and one
that a switch stops stands in nobody's line. With one it keeps it: a Stellar slot until its time bound has passed, a nonce until
the withdrawal goes on.
"""

from __future__ import annotations

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings import sending
from custody.holdings.stop_model import CHAIN_STOPS, ChainStop
from custody.kernel.assetid import ChainId
from custody.kernel.clock import Clock
from custody.kernel.ids import TenantId
from custody.switches import service as switches
from custody.switches.model import Place, of_asset, of_customer, of_vault
from custody.wallets import service as wallets
from custody.withdrawals import channel_store, store
from custody.withdrawals.model import STOPPED, Attempt, Withdrawal
from custody.withdrawals.ports import Means
from custody.withdrawals.reservation import flag, hold_off
from custody.withdrawals.slots import Wait

BY_SWITCH, BY_SIGNER = STOPPED
_AGAIN_S = 5
_OURS = (BY_SWITCH, *CHAIN_STOPS)
"""What is said here and taken back here."""


async def refuse_stopped(uow: UnitOfWork, new: Withdrawal) -> None:
    """Let a new withdrawal pass only where nothing is stopped. Raises StoppedBySwitch."""
    await switches.refuse_stopped(uow, await _places(uow, new))


async def waits(uow: UnitOfWork, means: Means, withdrawal: Withdrawal) -> bool:
    """Whether it is held back now; operators then see why. When not, no stop will come until this transaction has ended.

    The caller has locked it. Nothing gets a slot, or is first sent, in a transaction that has not asked this.
    """
    reason = await find_stop(uow, means, withdrawal)
    if reason:
        await hold_off(uow, withdrawal, Wait(reason=reason, look_in_s=_AGAIN_S))
        if reason == BY_SWITCH and withdrawal.stuck_reason != BY_SWITCH:
            await store.make_first_in_line_due(uow, withdrawal.sender_id)
        return True
    if withdrawal.stuck_reason in _OURS:
        await flag(uow, withdrawal, "")
    return False


async def find_stop(uow: UnitOfWork, means: Means, withdrawal: Withdrawal) -> str:
    """What stops it, one of `STUCK`; empty when nothing does, and then no stop will come until this transaction has ended."""
    stopped = {switch.place for switch in await switches.list_stopped(uow)}
    if stopped and not stopped.isdisjoint(await _places(uow, withdrawal)):
        return BY_SWITCH
    chain = withdrawal.asset.chain
    return await sending.demand(uow, chain, _blind_after_s(means, chain)) or ""


async def has_to_wait(means: Means, tenant: TenantId, withdrawal: Withdrawal) -> bool:
    """The same where no transaction may be open for what follows. A stop that comes meanwhile is met by the next that asks."""
    async with means.db.read(tenant) as session:
        asks = (
            withdrawal.stuck_reason in _OURS
            or bool(await switches.list_standing(session))
            or await _sees_not(session, means, withdrawal.asset.chain) is not None
        )
    if not asks:
        return False
    async with means.db.unit_of_work(tenant) as uow:
        locked = await store.lock_withdrawal(uow, withdrawal.id)
        return locked is not None and locked.state == withdrawal.state and await waits(uow, means, locked)


async def wait_for_signer(means: Means, tenant: TenantId, withdrawal: Withdrawal) -> None:
    """An approver has stopped the signer here: the same request is made again later, and operators see why."""
    async with means.db.unit_of_work(tenant) as uow:
        locked = await store.lock_withdrawal(uow, withdrawal.id)
        if locked is not None and locked.state == withdrawal.state:
            await hold_off(uow, locked, Wait(reason=BY_SIGNER, look_in_s=_AGAIN_S))


def can_be_signed(attempt: Attempt, clock: Clock) -> bool:
    """Whether a slot can still become a transaction. Once it cannot, the signer says so, and the next in line has its turn."""
    return attempt.max_time is None or clock.now().timestamp() < attempt.max_time


async def _sees_not(session: ReadSession, means: Means, chain: ChainId) -> ChainStop | None:
    return await sending.find_stop(session, chain, _blind_after_s(means, chain))


def _blind_after_s(means: Means, chain: ChainId) -> int:
    """A chain that is not configured is refused by whoever needs its node."""
    return next((each.blind_after_s for each in means.settings.chains if each.id == chain), 0)


async def _places(session: ReadSession, withdrawal: Withdrawal) -> list[Place]:
    """Whatever may stop a withdrawal."""
    places = [*of_asset(withdrawal.asset), of_vault(withdrawal.vault_id), of_vault(withdrawal.sender_id)]
    if withdrawal.wallet_id is not None:
        wallet = await wallets.get_wallet(session, withdrawal.wallet_id)
        places.append(of_customer(wallet.customer_id))
    if withdrawal.kind == "fee_bump":
        # A bump is a higher bid for what it is wrapped around.
        inner_id = await channel_store.find_by_digest(session, bytes.fromhex(withdrawal.memo.value))
        inner = None if inner_id is None else await store.load_withdrawal(session, inner_id)
        places += [] if inner is None else await _places(session, inner)
    return places
