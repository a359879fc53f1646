"""Concurrent clients of every kind that note what they saw: for the checker of histories."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence
from uuid import UUID

from custody.db.session import Database
from custody.kernel.ids import TenantId, derived_uuid
from custody.ledger import service
from custody.ledger.model import (
    AccountKey,
    AccountKind,
    Command,
    ExpireHold,
    Hold,
    OpenAccount,
    Outcome,
    PostHold,
    Reverse,
    Transfer,
    VoidHold,
)
from tests.fakes.ledger_history import Leg, Operation
from tests.faults.doors import BatchDoor, Door, SingleDoor, running
from tests.faults.plan import DUE, EQUITY, VAULT, WALLETS, Chain, Plan, draw_plan

ACCOUNTS = [VAULT, EQUITY, *WALLETS]


def label(key: AccountKey) -> str:
    """The account's name in histories."""
    return f"{key.kind.value} {WALLETS.index(key)}" if key in WALLETS else key.kind.value


class Observer:
    """One clock and one history for all clients of a tenant."""

    def __init__(self, database: Database, tenant: TenantId, plan: Plan) -> None:
        """The plan says what its commands are about."""
        self.history: list[Operation] = []
        self.results: list[Outcome] = []
        self._database, self._tenant = database, tenant
        self._ticks = itertools.count()
        commands = [c for chain in plan.chains() for c in chain if not isinstance(c, OpenAccount)]
        self._commands: dict[UUID, Command] = {c.id: c for c in commands}

    async def write(self, door: Door, chain: Chain) -> None:
        """Post a chain and note what it wrote, if it was applied."""
        start = next(self._ticks)
        outcomes = await door.submit(self._tenant, chain)
        self._wrote(chain, outcomes, start)

    def _wrote(self, chain: Chain, outcomes: Sequence[Outcome], start: int) -> None:
        end = next(self._ticks)
        self.results += outcomes
        if all(outcome.result.value == "applied" for outcome in outcomes):
            legs = [leg for c, o in zip(chain, outcomes, strict=True) for leg in self._legs(c, o)]
            name = str(outcomes[0].command_id)
            self.history.append(Operation(name=name, legs=tuple(legs), start=start, end=end))

    async def read(self, keys: Sequence[AccountKey]) -> None:
        """Read some balances in one snapshot and note them."""
        start = next(self._ticks)
        async with self._database.read(self._tenant) as session:
            found = {label(key): await service.balance(session, key) for key in keys}
        seen = {name: (balance.version, balance.posted) for name, balance in found.items()}
        self.history.append(Operation(name=f"read {start}", seen=seen, start=start, end=next(self._ticks)))

    async def sweep(self) -> None:
        """Expire what is due. The sweeper tells which holds; the answers are asked for again by the ids that it gives."""
        start = next(self._ticks)
        async with self._database.unit_of_work(self._tenant) as uow:
            swept = await service.expire_due(uow, DUE, limit=5)
        end = next(self._ticks)
        commands = [
            ExpireHold(id=derived_uuid("ledger", "expired", hold_id), hold_id=hold_id, as_of=DUE)
            for hold_id in swept
        ]
        async with self._database.unit_of_work(self._tenant) as uow:
            outcomes = await service.submit(uow, [(command,) for command in commands])
        for command, outcome in zip(commands, outcomes, strict=True):
            legs = tuple(self._legs(command, outcome))
            self.history.append(Operation(name=str(command.id), legs=legs, start=start, end=end))

    def _legs(self, command: Command, outcome: Outcome) -> Iterator[Leg]:
        debit, credit, posted = self._moved(command)
        figures = (
            (debit, outcome.debit_version, outcome.debit_balance, True),
            (credit, outcome.credit_version, outcome.credit_balance, False),
        )
        for key, version, balance, debited in figures:
            if version is None or balance is None:
                raise AssertionError(f"{outcome} has no figures")
            grows = debited == (key.kind is AccountKind.VAULT)
            change = None if posted is None else posted if grows else -posted
            yield Leg(account=label(key), version=version, balance=balance, change=change)

    def _moved(self, command: Command) -> tuple[AccountKey, AccountKey, int | None]:
        """Who is debited, who is credited, and how much, as far as the caller says."""
        match command:
            case Transfer(debit=debit, credit=credit, amount=amount):
                return debit, credit, amount.atomic
            case Hold(debit=debit, credit=credit):
                return debit, credit, 0
            case PostHold(hold_id=hold_id, amount=part):
                debit, credit, _ = self._moved(self._commands[hold_id])
                return debit, credit, None if part is None else part.atomic
            case VoidHold(hold_id=hold_id) | ExpireHold(hold_id=hold_id):
                return self._moved(self._commands[hold_id])
            case Reverse(transfer_id=target):
                debit, credit, posted = self._moved(self._commands[target])
                return credit, debit, posted
            case _:
                raise AssertionError(f"{command} moves nothing")


async def observed(database: Database, tenant: TenantId, dsn: str, seed: int, length: int = 25) -> Observer:
    """Two batchers, single calls, a sweeper and readers, all at once; some chains are sent by two of them."""
    plan = draw_plan(seed, 12, length)
    observer = Observer(database, tenant, plan)
    single = SingleDoor(database)
    batches = [BatchDoor(dsn), BatchDoor(dsn)]
    done = asyncio.Event()

    async def client(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        doors: list[Door] = [*batches, single]
        for chain in plan.clients[number]:
            if chance.random() < 0.15:
                await asyncio.gather(*(observer.write(door, chain) for door in chance.sample(doors, 2)))
            else:
                await observer.write(doors[number % 3], chain)

    async def reader(number: int) -> None:
        chance = random.Random(f"{seed} reader {number}")
        while not done.is_set():
            await observer.read(chance.sample(ACCOUNTS, chance.randint(1, 5)))

    async def sweeper() -> None:
        while not done.is_set():
            await observer.sweep()
            await asyncio.sleep(0.01)

    async with running(*batches), asyncio.TaskGroup() as group:
        for work in (reader(0), reader(1), sweeper()):
            group.create_task(work)
        async with asyncio.TaskGroup() as clients:
            for number in range(len(plan.clients)):
                clients.create_task(client(number))
        done.set()
    await observer.read(ACCOUNTS)
    return observer
