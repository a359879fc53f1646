"""Random streams of commands, cut into batches at random, against the oracle.

The oracle takes each chain alone, the posting function whole batches of them: equal answers show that results do not depend on
where a batch ends. Failing examples print the blob that replays them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from custody.assets import service as assets
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import derived_uuid
from custody.kernel.money import Amount
from custody.ledger import service
from custody.ledger.model import (
    AccountKey,
    AccountKind,
    ChangeAccount,
    Command,
    ExpireHold,
    Hold,
    OpenAccount,
    PostHold,
    Reverse,
    Transfer,
    TransferCode,
    VoidHold,
)
from tests.fakes.ledger_invariants import broken_invariants
from tests.fakes.ledger_oracle import Answer, Oracle

T = TypeVar("T")

XLM, EUR, UNLISTED = (parse_asset_id(t) for t in ("stellar:devnet/native", "fiat/EUR", "fiat/XXX"))
DAWN = datetime(2030, 1, 1, tzinfo=UTC)
REFERENCE = derived_uuid("reference")
_runs = itertools.count()


def key(kind: AccountKind, owner: str | None, asset: AssetId = XLM) -> AccountKey:
    return AccountKey(kind=kind, owner=None if owner is None else derived_uuid(owner), asset=asset)


ACCOUNTS = {
    XLM: [
        key(AccountKind.WALLET, "anna"),
        key(AccountKind.WALLET, "bert"),
        key(AccountKind.VAULT, "vault"),
        key(AccountKind.EQUITY, None),
        key(AccountKind.SUSPENSE, None),
        key(AccountKind.NETWORK_FEES, None),
    ],
    EUR: [key(AccountKind.WALLET, "anna", EUR), key(AccountKind.BANK, "bank", EUR)],
    UNLISTED: [key(AccountKind.WALLET, "anna", UNLISTED), key(AccountKind.EQUITY, None, UNLISTED)],
}
KEYS = [k for keys in ACCOUNTS.values() for k in keys]

assets_drawn = st.sampled_from([XLM] * 40 + [EUR] * 10 + [UNLISTED])
small = st.integers(1, 12)
ceilings = st.sampled_from([None, None, None, 60])
edges = st.sampled_from(
    [0, -1, 2**63 - 1, 2**63, 2**63 + 1, 2**127, 2**128, 2**256 - 2, 2**256 - 1, 2**256, 10**78]
)
amounts = st.one_of(*[small] * 12, st.integers(1, 2**70), edges)
numbers = st.integers(0, 40)


@st.composite
def movements(draw: st.DrawFn, command_id: UUID) -> Transfer | Hold:
    asset = draw(assets_drawn)
    debit, credit = draw(st.permutations(ACCOUNTS[asset]))[:2]
    credit = debit if draw(st.integers(0, 60)) == 60 else credit
    common: dict[str, Any] = {
        "id": command_id,
        "debit": debit,
        "credit": credit,
        "amount": Amount(asset, draw(amounts)),
        "code": TransferCode.WALLET_TRANSFER,
        "reference": REFERENCE,
    }
    if draw(st.booleans()):
        return Transfer(**common)
    expires = draw(st.none() | st.integers(0, 3).map(lambda h: DAWN + timedelta(hours=h)))
    return Hold(**common, expires_at=expires)


class LedgerMachine(RuleBasedStateMachine):
    """Queues chains, answers them by the oracle, and posts the queue in batches cut at random."""

    def __init__(self, loop: asyncio.AbstractEventLoop, database: Database) -> None:
        super().__init__()
        self.loop, self.database = loop, database
        self.oracle = Oracle({XLM, EUR})
        self.queue: list[tuple[list[Command], list[Answer]]] = []
        self.past: list[Command] = []
        self.tenant = self.run(self._tenant())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def _tenant(self) -> Any:
        async with self.database.unit_of_work(None) as uow:
            await assets.register(uow, XLM, "XLM", 7)
            await assets.register(uow, EUR, "EUR", 2)
            return await identity.create_tenant(uow, f"run {next(_runs)}")

    def enqueue(self, *commands: Command) -> None:
        chain = list(commands)
        self.past += chain
        self.queue.append((chain, self.oracle.submit([chain])))

    def ids(self, kind: type[Command]) -> list[UUID]:
        """Ids of applied commands of a kind, the latest more often, and one that is nobody's."""
        moved = self.oracle.state.moved
        found = [c.id for c in self.past if isinstance(c, kind) and c.id in moved]  # type: ignore[union-attr]  # no OpenAccount is asked for
        return found[-4:] * 4 + found[-12:] + [derived_uuid("nobody")]

    def draw_command(self, data: st.DataObject) -> Command:
        # A small range of ids, so that some are met again, with the same content or another.
        command_id = derived_uuid("command", self.tenant, len(self.past) - (data.draw(numbers) == 0))
        as_of = DAWN + timedelta(hours=data.draw(st.integers(0, 3)))
        choice = data.draw(st.integers(0, 13))
        if choice <= 5:
            return data.draw(movements(command_id))
        if choice <= 8:
            amount = data.draw(st.none() | amounts.map(lambda a: Amount(XLM, a)))
            hold_id = data.draw(st.sampled_from(self.ids(Hold)))
            return PostHold(id=command_id, hold_id=hold_id, amount=amount, final=data.draw(st.booleans()))
        if choice == 9:
            return VoidHold(id=command_id, hold_id=data.draw(st.sampled_from(self.ids(Hold))))
        if choice == 10:
            return ExpireHold(id=command_id, hold_id=data.draw(st.sampled_from(self.ids(Hold))), as_of=as_of)
        if choice == 11:
            targets = [i for k in (Transfer, PostHold, Hold, Reverse) for i in self.ids(k)]
            return Reverse(id=command_id, transfer_id=data.draw(st.sampled_from(targets)))
        if choice == 12 or data.draw(numbers) > 10:
            limits = data.draw(st.sampled_from([None, None, None, -15, 0])), data.draw(ceilings)
            key = data.draw(st.sampled_from(KEYS[:-2] * 6 + KEYS))
            return OpenAccount(key=key, floor=limits[0], ceiling=limits[1])
        event = data.draw(st.sampled_from(["freeze", "unfreeze", "unfreeze", "close"]))
        return ChangeAccount(id=command_id, key=data.draw(st.sampled_from(KEYS)), event=event)  # type: ignore[arg-type]  # one of the three events

    @initialize(skipped=st.none() | st.sampled_from(KEYS))
    def open_all(self, skipped: AccountKey | None) -> None:
        opened = [k for k in ACCOUNTS[XLM] + ACCOUNTS[EUR] if k != skipped]
        for k in opened:
            limited = k.owner == derived_uuid("bert")
            self.enqueue(OpenAccount(key=k, floor=-15 if limited else None, ceiling=60 if limited else None))
        for n in (1, 0, 1, 0):
            self.fund(20, ACCOUNTS[XLM][n], ACCOUNTS[XLM][2])
        self.fund(20, *ACCOUNTS[EUR])

    @rule(atomic=amounts)
    def deposit(self, atomic: int) -> None:
        self.fund(atomic, ACCOUNTS[XLM][0], ACCOUNTS[XLM][2])

    def fund(self, atomic: int, credit: AccountKey, debit: AccountKey) -> None:
        self.enqueue(
            Transfer(
                id=derived_uuid("command", self.tenant, len(self.past)),
                debit=debit,
                credit=credit,
                amount=Amount(debit.asset, atomic),
                code=TransferCode.DEPOSIT,
                reference=REFERENCE,
            )
        )

    @rule(data=st.data())
    def single(self, data: st.DataObject) -> None:
        self.enqueue(self.draw_command(data))

    @rule(data=st.data(), length=st.integers(2, 4))
    def chain(self, data: st.DataObject, length: int) -> None:
        commands: list[Command] = []
        for _ in range(length):
            commands.append(self.draw_command(data))
            self.past.append(commands[-1])
        del self.past[-length:]
        self.enqueue(*commands)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        self.enqueue(data.draw(st.sampled_from(self.past[-20:])))

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def flush(self, data: st.DataObject) -> None:
        while self.queue:
            size = data.draw(st.integers(1, len(self.queue)))
            batch, self.queue = self.queue[:size], self.queue[size:]
            self.run(self.compare(batch))

    async def compare(self, batch: list[tuple[list[Command], list[Answer]]]) -> None:
        async with self.database.unit_of_work(self.tenant) as uow:
            outcomes = await service.submit(uow, [chain for chain, _ in batch])
        answered = [
            Answer(o.result.value, o.debit_version, o.debit_balance, o.credit_version, o.credit_balance)
            for o in outcomes
        ]
        assert answered == [answer for _, answers in batch for answer in answers]

    def teardown(self) -> None:
        if self.queue:
            self.run(self.compare(self.queue))
        self.run(self.check())

    async def check(self) -> None:
        async with self.database.read(self.tenant) as session:
            assert await broken_invariants(session) == []
            for account in self.oracle.state.accounts.values():
                found = await service.balance(session, account.key)
                assert (found.posted, found.pending_out, found.version) == (
                    account.balance,
                    account.held,
                    account.version,
                )


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_the_ledger_answers_as_the_oracle_does(loop: asyncio.AbstractEventLoop, app_dsn: str) -> None:
    database = Database(app_dsn)
    try:
        run_state_machine_as_test(
            lambda: LedgerMachine(loop, database),  # type: ignore[arg-type]  # any factory will do
            settings=settings(
                max_examples=60,
                stateful_step_count=40,
                deadline=None,
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        loop.run_until_complete(database.close())
