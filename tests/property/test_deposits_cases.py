"""Random arrivals, rules, decisions, returns and reorganisations: at every step suspense is what its cases say, and nobody is
paid twice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

import pytest

from custody.assets import service as assets
from custody.db.session import Database
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.deposits.errors import CreditSpent
from custody.deposits.model import DepositCase, DepositRule
from custody.kernel.errors import CustodyError
from custody.kernel.ids import TenantId, WithdrawalId, new_uuid
from custody.ledger import service as ledger
from custody.policy.model import Word
from custody.returns import service as returns
from custody.returns.service import RequestReturn
from custody.wallets.model import VaultRef
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import NO_MEMO, Withdrawal
from tests.fakes.finality import credit_final
from tests.fakes.withdrawal_world import OUTSIDE, STELLAR, VAULT, VAULT_ACCOUNT, WALLET, XLM, World
from tests.integration.test_deposits_cases import USDC
from tests.integration.test_deposits_service import arrival

T = TypeVar("T")
SENDER = OUTSIDE[STELLAR]
STEPS = 60
ACTS = (
    "arrive", "arrive", "arrive", "settle", "settle", "assign", "assign", "give_back", "veto", "pay", "sweep", "dismiss",
    "list_asset", "reorganise",
)  # fmt: skip


class Office:
    """One vault, one operator, and chance."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance, self.height = world, chance, 100
        self.vault = VaultRef(tenant=world.tenant, vault_id=VAULT[STELLAR], account=VAULT_ACCOUNT[STELLAR])
        self.done: set[str] = set()

    async def act(self, name: str) -> None:
        """One thing happens, or is refused by name and changes nothing."""
        try:
            await getattr(self, name)()
        except CreditSpent:
            self.done.add("credit_spent")
        except CustodyError as error:
            if error.code not in ("case_decided", "case_not_booked", "case_holds_money"):
                raise
            self.done.add(error.code)

    async def arrive(self) -> None:
        self.height += 1
        seen = arrival(
            account=self.vault.account,
            source=SENDER,
            tag=self.chance.choice((None, 7)),
            amount=self.chance.choice((5, 50, 500)),
            asset=self.chance.choice((XLM, XLM, USDC)),
            tx_hash=f"{self.height:064x}",
            height=self.height,
        )
        async with self.world.db.unit_of_work(self.world.tenant) as uow:
            await deposits.observe(uow, self.vault, seen)

    async def settle(self) -> None:
        async with self.world.db.unit_of_work(self.world.tenant) as uow:
            await credit_final(uow, STELLAR, self.height)

    async def assign(self) -> None:
        case = await self.some_case()
        if case is not None:
            async with self.world.db.unit_of_work(self.world.tenant) as uow:
                self.done.add((await cases.assign(uow, "ops", case.id, WALLET)).state)

    async def give_back(self) -> None:
        case = await self.some_case()
        if case is None:
            return
        wanted = RequestReturn(id=WithdrawalId(new_uuid()), case_id=case.id, destination=SENDER, memo=NO_MEMO)
        async with self.world.db.unit_of_work(self.world.tenant) as uow:
            await returns.request(
                uow, self.world.principal, wanted, settings=self.world.settings, clock=self.world.clock
            )

    async def veto(self) -> None:
        asked = await self.some_return("awaiting_approval")
        if asked is not None:
            await self.world.decide(asked, "carol", Word.REJECT)

    async def pay(self) -> None:
        asked = await self.some_return("awaiting_approval")
        if asked is None:
            return
        for name in ("alice", "bob"):
            await self.world.decide(asked, name)
        self.world.chains[STELLAR].fails_on_chain = self.chance.random() < 0.3
        await self.world.advance(asked)
        await self.world.ingest(STELLAR)
        self.done.add(await self.world.state(asked))

    async def sweep(self) -> None:
        async with self.world.db.unit_of_work(self.world.tenant) as uow:
            if await returns.reopen_unpaid(uow):
                self.done.add("reopened")

    async def dismiss(self) -> None:
        case = await self.some_case()
        if case is not None:
            async with self.world.db.unit_of_work(self.world.tenant) as uow:
                self.done.add((await cases.dismiss(uow, "ops", case.id)).state)

    async def list_asset(self) -> None:
        if self.chance.random() < 0.2:
            async with self.world.db.unit_of_work(self.world.tenant) as uow:
                await assets.register(uow, USDC, "USDC", 7)

    async def reorganise(self) -> None:
        async with self.world.db.unit_of_work(self.world.tenant) as uow:
            if await deposits.orphan(uow, STELLAR, self.height - self.chance.randrange(1, 4)):
                self.done.add("orphaned")

    async def some_case(self) -> DepositCase | None:
        async with self.world.db.read(self.world.tenant) as session:
            states = ("open", "ignored") if self.chance.random() < 0.7 else ()
            return self.one_of(await cases.list_cases(session, states=states))

    async def some_return(self, state: str) -> Withdrawal | None:
        async with self.world.db.read(self.world.tenant) as session:
            return self.one_of(await withdrawals.list_withdrawals(session, states=[state]))

    def one_of(self, found: Sequence[T]) -> T | None:
        return self.chance.choice(found) if found else None


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_suspense_is_what_its_cases_say_whatever_happens(
    database: Database, tenant: TenantId, seed: int
) -> None:
    world = await World(db=database, tenant=tenant).open()
    office = Office(world, random.Random(seed))
    async with database.unit_of_work(tenant) as uow:
        await cases.set_rule(uow, "ops", XLM, DepositRule(minimum=100, dust=10))
    for step in range(STEPS):
        act = office.chance.choice(ACTS)
        await office.act(act)
        async with database.read(tenant) as session:
            assert await cases.differences(session) == {}, (seed, step, act)
            assert not any((await ledger.trial_balance(session)).values()), (seed, step, act)
            found = await cases.list_cases(session, limit=1000)
            returned = [case.withdrawal_id for case in found if case.state == "returned"]
            paid = await withdrawals.list_withdrawals(session, limit=1000, states=["settled"])
        assert sorted(map(str, returned)) == sorted(str(each.id) for each in paid), (seed, step, act)
    money, chain = {"assigned", "settled"}, {"orphaned", "credit_spent"}
    assert money & office.done, f"seed {seed} shows little: {office.done}"
    assert chain & office.done, f"seed {seed} shows little: {office.done}"
