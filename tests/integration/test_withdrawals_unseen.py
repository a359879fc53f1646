"""Nothing new is signed or sent on a chain that our own ingestion does not see; what waits says so, and goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from custody.db.session import Database
from custody.holdings import halts, sending
from custody.holdings.model import Fork
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, WithdrawalId, derived_uuid
from custody.policy.model import Decision
from custody.signing.model import SignedTransaction, Slot
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import Withdrawal
from tests.fakes.faults import Crash
from tests.fakes.signer import FakeSigner
from tests.fakes.withdrawal_world import ETH, EVM, STELLAR, USDC, VAULT, XLM, World

pytestmark = pytest.mark.usefixtures("told_as_promised")

TWO = ("alice", "bob")
BLIND_AFTER_S = 120


@dataclass(frozen=True)
class Sight:
    """What ingestion tells of a chain, and takes back."""

    reason: str
    lose: Callable[[Database, ChainId], Awaitable[None]]
    regain: Callable[[Database, ChainId], Awaitable[None]]


async def halt(db: Database, chain: ChainId) -> None:
    """As `ingestion.halting` does where the chain was reorganised below finality."""
    fork = Fork(
        chain=chain,
        fork_height=5,
        fork_hash="f",
        our_height=9,
        our_hash="o",
        final_height=7,
        seen_height=9,
        seen_hash="s",
    )
    async with db.unit_of_work(None) as uow:
        await halts.open_halt(uow, [], fork)


async def keep(db: Database, chain: ChainId) -> None:
    """A person decides that ours is the chain."""
    async with db.unit_of_work(None) as uow:
        found = await halts.find_open(uow, chain)
        assert found is not None
        await halts.decide(uow, [], "olga", found.id, follow=False)


async def follow(db: Database, chain: ChainId, *, idle_s: float = 0) -> None:
    """A worker was at the tip so long ago."""
    async with db.unit_of_work(None) as uow:
        await sending.note_followed(uow, chain, 2, idle_s)


async def leave(db: Database, chain: ChainId) -> None:
    await follow(db, chain, idle_s=BLIND_AFTER_S + 1)


async def break_off(db: Database, chain: ChainId) -> None:
    """The worker ends; what one says that was replaced before changes nothing."""
    async with db.unit_of_work(None) as uow:
        await sending.note_stopped(uow, chain, 2, "ingestion_providers_disagree")
    async with db.unit_of_work(None) as uow:
        await sending.note_followed(uow, chain, 1, 0)


SIGHTS = [
    pytest.param(Sight("chain_halted", halt, keep), id="reorganised"),
    pytest.param(Sight("chain_halted", break_off, follow), id="broken"),
    pytest.param(Sight("chain_not_followed", leave, follow), id="not followed"),
]


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


async def stuck(world: World, withdrawal: Withdrawal) -> str:
    return (await world.view(withdrawal)).withdrawal.stuck_reason


async def trustline(world: World) -> Withdrawal:
    """An operation of a vault on itself: nothing is paid, and it is sent all the same."""
    async with world.db.unit_of_work(world.tenant) as uow:
        made = await withdrawals.request_trustline(
            uow,
            world.principal,
            WithdrawalId(derived_uuid("trust")),
            VAULT[STELLAR],
            USDC,
            settings=world.settings,
            clock=world.clock,
        )
    for name in TWO:
        made = await world.decide(made, name)
    return made


@pytest.mark.parametrize("sight", SIGHTS)
async def test_what_is_asked_for_waits_without_a_slot_in_its_place_and_goes_on_by_itself(
    world: World, sight: Sight
) -> None:
    await sight.lose(world.db, STELLAR)
    first, second = await world.request(XLM, approve=TWO), await trustline(world)
    elsewhere = await world.request(ETH, approve=TWO)
    for each in (first, second):
        assert await world.advance(each) == "approved"
        view = await world.view(each)
        assert (view.withdrawal.stuck_reason, view.attempts) == (sight.reason, ())
    assert await world.advance(elsewhere) == "broadcasting"
    await sight.regain(world.db, STELLAR)
    # Who has waited longest comes first, whoever looks first.
    assert await world.advance(second) == "approved"
    assert await world.advance(first) == "broadcasting"
    assert (await stuck(world, first), await stuck(world, second)) == ("", "")


async def test_a_slot_gets_no_signature_meanwhile(world: World) -> None:
    withdrawal = await world.request(ETH, approve=TWO)
    world.faults.arm("before sign")
    with pytest.raises(Crash):
        await world.advance(withdrawal)
    await halt(world.db, EVM)
    assert await world.advance(withdrawal) == "signing"
    assert (await stuck(world, withdrawal), world.signer.journal) == ("chain_halted", {})
    await keep(world.db, EVM)
    assert await world.advance(withdrawal) == "broadcasting"


class SlowSigner(FakeSigner):
    """While it signs, ingestion halts the chain."""

    world: World

    async def sign(self, intent: bytes, decisions: Sequence[Decision], slot: Slot) -> SignedTransaction:
        signed = await super().sign(intent, decisions, slot)
        await halt(self.world.db, EVM)
        return signed


async def test_what_was_signed_is_first_sent_when_it_is_over_and_what_was_sent_before_is_sent_on(
    world: World,
) -> None:
    earlier = await world.request(ETH, approve=TWO)
    assert await world.advance(earlier) == "broadcasting"
    withdrawal = await world.request(ETH, approve=TWO)
    slow = SlowSigner(world.policy, world.clock, world.faults)
    slow.world = world
    world.means = replace(world.means, signer=slow)
    node = world.chains[EVM]
    for _ in range(2):
        assert await world.advance(withdrawal) == "broadcasting"
        assert await stuck(world, withdrawal) == "chain_halted"
    assert len(node.sent) == 1
    node.pool.clear()
    await world.advance(earlier)
    assert node.sent[0] == node.sent[1]
    await keep(world.db, EVM)
    await world.advance(withdrawal)
    assert len(node.sent) == 3
    assert await stuck(world, withdrawal) == ""
    await world.ingest(EVM)
    await world.ingest(EVM)
    assert [await world.state(each) for each in (earlier, withdrawal)] == ["settled", "settled"]


async def test_a_halt_waits_for_who_asked_before_it_and_holds_back_who_asks_after(world: World) -> None:
    async with world.db.unit_of_work(world.tenant) as uow:
        assert await sending.demand(uow, EVM, BLIND_AFTER_S) is None
        halting = asyncio.create_task(halt(world.db, EVM))
        done, _ = await asyncio.wait({halting}, timeout=0.3)
        assert not done
    await halting
    async with world.db.unit_of_work(world.tenant) as uow:
        assert await sending.demand(uow, EVM, BLIND_AFTER_S) == "chain_halted"


async def test_a_bound_of_nothing_lets_everything_pass_but_a_halt(world: World) -> None:
    await leave(world.db, EVM)
    async with world.db.read(None) as session:
        assert await sending.find_stop(session, EVM, 0) is None
    await break_off(world.db, EVM)
    async with world.db.read(None) as session:
        assert await sending.find_stop(session, EVM, 0) == "chain_halted"
