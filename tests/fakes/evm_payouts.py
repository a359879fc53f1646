"""Withdrawals on the fake EVM chain: sent, left behind by the price, cancelled."""

from __future__ import annotations

from custody.kernel.ids import WithdrawalId, new_uuid
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import Attempt, Withdrawal
from tests.fakes.chain import FakeChain
from tests.fakes.withdrawal_world import ETH, EVM, FUNDS, World

PEOPLE = ("alice", "bob")
PAID = (FUNDS - 1000, 0, FUNDS - 1100, 100)


def chain_of(world: World) -> FakeChain:
    return world.chains[EVM]


async def sent(world: World) -> Withdrawal:
    """A withdrawal whose bytes were sent twice, as a worker does, and are in no block."""
    made = await world.request(ETH, approve=PEOPLE)
    assert await world.advance(made) == "broadcasting"
    await world.advance(made)
    return made


def raise_price(world: World, price: int) -> None:
    """Blocks come, and take none that pays less than half of this."""
    chain = chain_of(world)
    chain.price, chain.mines_from = price, price // 2
    chain.height += 6


async def attempts(world: World, made: Withdrawal) -> tuple[Attempt, ...]:
    return (await world.view(made)).attempts


async def stuck(world: World, made: Withdrawal) -> str:
    return (await world.view(made)).withdrawal.stuck_reason


async def cancel(world: World, target: Withdrawal, approve: tuple[str, ...] = PEOPLE) -> Withdrawal:
    async with world.db.unit_of_work(world.tenant) as uow:
        asked = await withdrawals.request_cancel(
            uow,
            world.principal,
            WithdrawalId(new_uuid()),
            target.id,
            settings=world.settings,
            clock=world.clock,
        )
    for name in approve:
        asked = await world.decide(asked, name)
    return asked


async def settle(world: World) -> None:
    """Two blocks: what they hold, and what that decides."""
    await world.ingest(EVM)
    await world.ingest(EVM)
