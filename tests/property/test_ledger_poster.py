"""The batcher under a simulated database that loses calls, loses answers, gives way and delays, driven by one seed.

Nothing is lost, nothing is doubled, everybody gets the answer to their own question, and nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

import pytest

from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger.channel import ChannelLost, StopMark
from custody.ledger.errors import (
    LedgerBusy,
    LedgerOutcomeUnknown,
    LedgerOverloaded,
    LedgerStopping,
    PostingFailed,
)
from custody.ledger.model import Command, OpenAccount, Outcome, ResultCode, Transfer, TransferCode
from custody.ledger.poster import Bounds, Lane, Poster
from tests.fakes.ledger_oracle import Oracle

XLM = parse_asset_id("stellar:devnet/native")
VAULT = postings.vault_account(derived_uuid("vault"), XLM)
WALLETS = [postings.wallet_account(derived_uuid("wallet", n), XLM) for n in range(4)]
TENANTS = [TenantId(n) for n in (1, 2, 3)]
POISON = derived_uuid("poison")
"""A reference that makes the simulated posting function fail."""


@dataclass
class Server:
    """What is committed. Channels come and go; this stays."""

    chance: random.Random
    trouble: float = 0.0
    ledgers: dict[TenantId, Oracle] = field(default_factory=dict)
    committed: Counter[UUID] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)
    open: int = 0

    def ledger(self, tenant: TenantId) -> Oracle:
        if tenant not in self.ledgers:
            self.ledgers[tenant] = Oracle({XLM})
            self.ledgers[tenant].submit([[OpenAccount(key=key) for key in (VAULT, *WALLETS)]])
        return self.ledgers[tenant]

    async def connect(self) -> Line:
        await self.delay()
        if self.strikes():
            raise ChannelLost
        self.open += 1
        return Line(self)

    def strikes(self) -> bool:
        return self.chance.random() < self.trouble

    async def delay(self) -> None:
        for _ in range(self.chance.randint(0, 3)):
            await asyncio.sleep(0)

    def apply(self, tenant: TenantId, chains: Sequence[Sequence[Command]]) -> list[Outcome]:
        ledger = self.ledger(tenant)
        outcomes = []
        for chain in chains:
            known = {c.id for c in chain if not isinstance(c, OpenAccount) and c.id in ledger.recorded}
            for command, answer in zip(chain, ledger.submit([chain]), strict=True):
                assert not isinstance(command, OpenAccount)
                if command.id not in known:
                    self.committed[command.id] += 1
                outcomes.append(
                    Outcome(
                        command_id=command.id,
                        result=ResultCode(answer.result),
                        replayed=command.id in known,
                        debit_version=answer.debit_version,
                    )
                )
        return outcomes


class Line:
    """One connection of the batcher to the server. A line once lost is dead."""

    def __init__(self, server: Server) -> None:
        self.server, self.alive, self.busy = server, True, False

    async def post(
        self, tenant: TenantId, chains: Sequence[Sequence[Command]], mark: StopMark | None = None
    ) -> list[Outcome]:
        assert self.alive, "a dead line was used"
        assert not self.busy, "two calls on one line"
        self.busy = True
        self.server.sizes.append(sum(len(chain) for chain in chains))
        await self.server.delay()
        if self.server.strikes():
            self.alive = False
            raise ChannelLost  # on the way there: nothing was done
        self.busy = False
        if self.server.strikes():
            raise LedgerBusy
        if any(isinstance(c, Transfer) and c.reference == POISON for chain in chains for c in chain):
            raise PostingFailed
        outcomes = self.server.apply(tenant, chains)
        await self.server.delay()
        if self.server.strikes():
            self.alive = False
            raise ChannelLost  # on the way back: all was done
        return outcomes

    async def close(self) -> None:
        self.alive = False
        self.server.open -= 1


async def no_pause(_: int) -> None:
    await asyncio.sleep(0)


def transfer(command_id: UUID, debit: int, atomic: int, reference: UUID | None = None) -> Transfer:
    source = VAULT if debit < 0 else WALLETS[debit]
    return Transfer(
        id=command_id,
        debit=source,
        credit=WALLETS[(debit + 1) % len(WALLETS)],
        amount=Amount(XLM, atomic),
        code=TransferCode.WALLET_TRANSFER,
        reference=reference or command_id,
    )


class Life:
    """One simulated process: clients that come at any moment, cancel, ask twice; a batcher; perhaps an abrupt end."""

    def __init__(self, seed: int) -> None:
        self.seed, self.chance = seed, random.Random(seed)
        self.server = Server(self.chance, trouble=self.chance.choice((0.0, 0.1, 0.4)))
        self.bounds = Bounds(
            batch=self.chance.choice((1, 3, 8)),
            bulk=2,
            queued=self.chance.choice((5, 60)),
            second_pipe=self.chance.choice((1, 4, 250)),
        )
        self.poster = Poster(self.server.connect, no_pause, self.bounds)
        self.chains: dict[int, tuple[TenantId, tuple[Transfer, ...]]] = {}
        self.answers: dict[int, object] = {}

    def make(self, number: int) -> None:
        length = self.chance.choice((1, 1, 1, 2, 12))
        poison = POISON if self.chance.random() < 0.02 else None
        commands = tuple(
            transfer(
                derived_uuid(self.seed, number, n),
                self.chance.randint(-1, 3),
                self.chance.randint(1, 9),
                poison,
            )
            for n in range(length)
        )
        self.chains[number] = self.chance.choice(TENANTS), commands

    async def client(self, number: int) -> None:
        for _ in range(self.chance.randint(0, 30)):
            await asyncio.sleep(0)
        tenant, commands = self.chains[number]
        lane = self.chance.choice(list(Lane))
        for _ in range(self.chance.choice((1, 1, 2))):
            try:
                self.answers[number] = await self.poster.submit(tenant, *commands, lane=lane)
            except (LedgerOverloaded, LedgerStopping, LedgerOutcomeUnknown, PostingFailed) as error:
                self.answers.setdefault(number, error)

    async def live(self) -> None:
        clients = 60
        for number in range(clients):
            self.make(number)
        runner = asyncio.ensure_future(self.poster.run())
        tasks = [asyncio.ensure_future(self.client(number)) for number in range(clients)]
        abrupt = self.chance.random() < 0.3
        for task in tasks:
            if self.chance.random() < 0.1:
                await asyncio.sleep(0)
                task.cancel()
        if abrupt:
            for _ in range(self.chance.randint(5, 80)):
                await asyncio.sleep(0)
            runner.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.poster.stop()
        await asyncio.gather(runner, return_exceptions=True)
        self.check()

    def check(self) -> None:
        assert self.server.open == 0
        assert self.poster.queued == 0 or self.poster._stopping
        assert set(self.server.committed.values()) <= {1}
        for number, answer in self.answers.items():
            tenant, commands = self.chains[number]
            recorded = self.server.ledger(tenant).recorded
            if isinstance(answer, tuple):
                assert [outcome.command_id for outcome in answer] == [c.id for c in commands]
                assert [outcome.result.value for outcome in answer] == [
                    recorded[c.id][1].result for c in commands
                ]
                assert [outcome.debit_version for outcome in answer] == [
                    recorded[c.id][1].debit_version for c in commands
                ]
            elif not isinstance(answer, LedgerOutcomeUnknown):
                assert not any(c.id in recorded for c in commands)
        assert all(size <= max(self.bounds.batch, 12) for size in self.server.sizes)


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_nothing_is_lost_or_doubled(first: int) -> None:
    for seed in range(first, first + 50):
        try:
            asyncio.run(asyncio.wait_for(Life(seed).live(), timeout=60))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error


def test_simulated_lives_meet_every_trouble() -> None:
    met: Counter[str] = Counter()
    for seed in range(60):
        life = Life(seed)
        asyncio.run(life.live())
        met.update(type(answer).__name__ for answer in life.answers.values())
        met.update(
            "replayed" for answer in life.answers.values() if isinstance(answer, tuple) and answer[0].replayed
        )
        met.update("batched" for size in life.server.sizes if size > 1)
    names = {"tuple", "LedgerOverloaded", "LedgerOutcomeUnknown", "PostingFailed", "LedgerStopping"}
    assert names | {"replayed", "batched"} <= set(met), met


async def deposits(
    poster: Poster, count: int, tenant: TenantId = TENANTS[0], lane: Lane = Lane.INTERACTIVE
) -> None:
    await asyncio.gather(
        *(
            poster.submit(tenant, transfer(derived_uuid(tenant, lane, n), -1, 1), lane=lane)
            for n in range(count)
        )
    )


async def test_what_waits_goes_together() -> None:
    server = Server(random.Random(1))
    poster = Poster(server.connect, no_pause, Bounds(batch=10))
    async with asyncio.TaskGroup() as group:
        group.create_task(poster.run())
        await deposits(poster, 25)
        poster.stop()
    assert server.sizes == [10, 10, 5]


async def test_bulk_work_leaves_room_and_is_not_starved() -> None:
    server = Server(random.Random(1))
    poster = Poster(server.connect, no_pause, Bounds(batch=4, bulk=1, queued=1000))
    async with asyncio.TaskGroup() as group:
        await_bulk = group.create_task(deposits(poster, 5, TENANTS[1], Lane.BULK))
        await_people = group.create_task(deposits(poster, 100, TENANTS[0]))
        await asyncio.sleep(0)
        runner = group.create_task(poster.run())
        await await_bulk
        assert not await_people.done()
        await await_people
        poster.stop()
        await runner
    assert server.sizes.count(1) == 5


async def test_a_full_queue_turns_away_at_once() -> None:
    server = Server(random.Random(1))
    poster = Poster(server.connect, no_pause, Bounds(queued=3))
    waiting = asyncio.ensure_future(deposits(poster, 3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    with pytest.raises(LedgerOverloaded):
        await poster.submit(TENANTS[0], transfer(derived_uuid("late"), -1, 1))
    async with asyncio.TaskGroup() as group:
        group.create_task(poster.run())
        await waiting
        poster.stop()
    with pytest.raises(LedgerStopping):
        await poster.submit(TENANTS[0], transfer(derived_uuid("later"), -1, 1))
    assert server.committed.total() == 3


async def test_one_bad_request_spoils_only_its_own_answer() -> None:
    server = Server(random.Random(1))
    poster = Poster(server.connect, no_pause)
    async with asyncio.TaskGroup() as group:
        bad = group.create_task(_failure(poster, transfer(derived_uuid("bad"), -1, 1, POISON)))
        good = group.create_task(deposits(poster, 20))
        await asyncio.sleep(0)
        group.create_task(poster.run())
        await good
        assert isinstance(await bad, PostingFailed)
        poster.stop()
    assert server.committed.total() == 20


async def _failure(poster: Poster, command: Command) -> Exception | None:
    try:
        await poster.submit(TENANTS[0], command)
    except PostingFailed as error:
        return error
    return None
