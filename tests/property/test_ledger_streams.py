"""Long random streams against the oracle: less clever than the state machine, and much longer.

One number seeds a stream; it is printed when the stream fails. Every kind of command and every result must come up, so that
the test cannot go blind unnoticed.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from custody.assets import service as assets
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.model import (
    AccountKey,
    AccountKind,
    ChangeAccount,
    Command,
    ExpireHold,
    Hold,
    OpenAccount,
    PostHold,
    ResultCode,
    Reverse,
    Transfer,
    TransferCode,
    VoidHold,
)
from tests.fakes.ledger_invariants import broken_invariants
from tests.fakes.ledger_oracle import Answer, Oracle

XLM, EUR, UNLISTED = (parse_asset_id(t) for t in ("stellar:devnet/native", "fiat/EUR", "fiat/XXX"))
DAWN = datetime(2030, 1, 1, tzinfo=UTC)


def tenants_own(kind: AccountKind) -> AccountKey:
    return AccountKey(kind=kind, owner=None, asset=XLM)


WALLETS = [postings.wallet_account(derived_uuid("wallet", n), XLM) for n in range(4)]
OTHERS = [
    postings.vault_account(derived_uuid("vault"), XLM),
    tenants_own(AccountKind.EQUITY),
    tenants_own(AccountKind.SUSPENSE),
    tenants_own(AccountKind.NETWORK_FEES),
]
EUROS = [
    postings.wallet_account(derived_uuid("wallet", 0), EUR),
    postings.bank_account(derived_uuid("bank"), EUR),
]
LIMITS = {WALLETS[3]: {"floor": -25, "ceiling": 60}, EUROS[1]: {"ceiling": 40}}
"""Accounts that may be overdrawn so far, and must not hold more."""
EDGES = (0, -1, 2**63, 2**128, 2**256 - 1, 2**256)


class Stream:
    """A source of chains that mostly make sense, and sometimes do not."""

    def __init__(self, seed: int, oracle: Oracle) -> None:
        self.chance = random.Random(seed)
        self.oracle = oracle
        self.seed = seed
        self.past: list[Command] = []

    def first_money(self) -> list[Command]:
        """Open most accounts, and give the wallets something to move."""
        keys = self.chance.sample(WALLETS + OTHERS, 7)
        self.past += [
            OpenAccount(key=key, **LIMITS.get(key, {})) for key in {*keys, *EUROS, WALLETS[0], OTHERS[0]}
        ]
        self.past.append(
            Transfer(
                id=self.new_id(),
                debit=OTHERS[0],
                credit=WALLETS[0],
                amount=Amount(XLM, 500),
                code=TransferCode.DEPOSIT,
                reference=derived_uuid("reference"),
            )
        )
        return list(self.past)

    def chain(self) -> list[Command]:
        length = self.chance.choice((1, 1, 1, 2, 3))
        return [self.command() for _ in range(length)]

    def command(self) -> Command:
        makers = (
            [self.movement] * 12
            + [self.post_hold] * 4
            + [self.end_hold] * 3
            + [self.reverse] * 2
            + [self.open] * 2
            + [self.change] * 2
            + [self.again, self.clash]
        )
        made = self.chance.choice(makers)()
        self.past.append(made)
        return made

    def new_id(self) -> UUID:
        return derived_uuid("stream", self.seed, len(self.past))

    def amount(self) -> int:
        draw = self.chance.random()
        if draw < 0.03:
            return self.chance.choice(EDGES)
        # Now and then as much as a vault holds, whose own funds would else never be the ones that lack.
        return self.chance.randint(200, 900) if draw < 0.08 else self.chance.randint(1, 30)

    def movement(self) -> Command:
        asset: AssetId = EUR if self.chance.random() < 0.1 else XLM
        debit, credit = self.chance.sample(EUROS if asset == EUR else WALLETS + OTHERS, 2)
        if self.chance.random() < 0.02:
            credit = debit
        common = {
            "id": self.new_id(),
            "debit": debit,
            "credit": credit,
            "amount": Amount(asset, self.amount()),
            "code": TransferCode.WALLET_TRANSFER,
            "reference": derived_uuid("reference"),
        }
        if self.chance.random() < 0.5:
            return Transfer(**common, effective_at=self.dated())  # type: ignore[arg-type]  # the fields above
        hours = self.chance.choice((None, 0, 1, 2))
        return Hold(**common, expires_at=None if hours is None else DAWN + timedelta(hours=hours))  # type: ignore[arg-type]  # the fields above

    def dated(self) -> datetime | None:
        return None if self.chance.random() < 0.7 else DAWN - timedelta(days=self.chance.randint(-9, 3650))

    def hold_id(self) -> UUID:
        open_holds = [id_ for id_, hold in self.oracle.state.holds.items() if hold.remaining]
        pool = open_holds if open_holds and self.chance.random() < 0.85 else list(self.oracle.state.holds)
        return self.chance.choice([*pool[-8:], *self.tried(Hold)])

    def tried(self, kind: type[Transfer | Hold]) -> list[UUID]:
        """Ids given lately, whether they were applied, refused or taken back with their chain; and one never given."""
        return [c.id for c in self.past[-8:] if isinstance(c, kind)] + [derived_uuid("nobody")]

    def post_hold(self) -> Command:
        hold_id = self.hold_id()
        hold = self.oracle.state.holds.get(hold_id)
        asset = XLM if hold is None else hold.command.amount.asset
        if self.chance.random() < 0.1:
            asset = self.chance.choice((XLM, EUR))
        amount = None if self.chance.random() < 0.3 else Amount(asset, self.amount() // 2)
        final, dated = self.chance.random() < 0.3, self.dated()
        return PostHold(id=self.new_id(), hold_id=hold_id, amount=amount, final=final, effective_at=dated)

    def end_hold(self) -> Command:
        if self.chance.random() < 0.5:
            return VoidHold(id=self.new_id(), hold_id=self.hold_id())
        as_of = DAWN + timedelta(hours=self.chance.randint(0, 2))
        return ExpireHold(id=self.new_id(), hold_id=self.hold_id(), as_of=as_of)

    def reverse(self) -> Command:
        moved = list(self.oracle.state.moved)[-10:]
        target = self.chance.choice([*moved, *self.tried(Transfer)])
        return Reverse(id=self.new_id(), transfer_id=target, effective_at=self.dated())

    def open(self) -> Command:
        strange = self.chance.random() < 0.1
        keys = (
            [postings.wallet_account(derived_uuid("wallet", 0), UNLISTED)]
            if strange
            else WALLETS + OTHERS + EUROS
        )
        key = self.chance.choice(keys)
        limits: dict[str, int] = LIMITS.get(key, {}) if self.chance.random() < 0.8 else {"ceiling": 70}
        return OpenAccount(key=key, **limits)

    def change(self) -> Command:
        key = self.chance.choice(WALLETS + OTHERS)
        event = self.chance.choice(("freeze", "unfreeze", "unfreeze", "unfreeze", "close"))
        return ChangeAccount(id=self.new_id(), key=key, event=event)  # type: ignore[arg-type]  # one of the three events

    def again(self) -> Command:
        return self.chance.choice(self.past[-30:]) if self.past else self.open()

    def clash(self) -> Command:
        """Another command under an id already used."""
        used = [c.id for c in self.past[-30:] if not isinstance(c, OpenAccount)]
        return VoidHold(id=self.chance.choice(used or [self.new_id()]), hold_id=derived_uuid("clash"))


async def answers(database: Database, tenant: TenantId, chains: list[list[Command]]) -> list[Answer]:
    async with database.unit_of_work(tenant) as uow:
        outcomes = await service.submit(uow, chains)
    return [
        Answer(o.result.value, o.debit_version, o.debit_balance, o.credit_version, o.credit_balance)
        for o in outcomes
    ]


async def run_stream(database: Database, seed: int, batches: int) -> Counter[str]:
    """One tenant's life: batches of chains, each compared with the oracle. Returns which results came up."""
    async with database.unit_of_work(None) as uow:
        tenant = await identity.create_tenant(uow, f"stream {seed}")
    oracle = Oracle({XLM, EUR})
    stream = Stream(seed, oracle)
    met: Counter[str] = Counter()
    for number in range(batches):
        chains = [stream.first_money()] if number == 0 else []
        expected = oracle.submit(chains)
        for _ in range(stream.chance.randint(1, 40)):
            chains.append(stream.chain())
            expected += oracle.submit([chains[-1]])
        assert await answers(database, tenant, chains) == expected, f"seed {seed}"
        met.update(answer.result for answer in expected)
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == [], f"seed {seed}"
    return met


@pytest.mark.timeout(120)
async def test_long_streams_answer_as_the_oracle_does(database: Database) -> None:
    async with database.unit_of_work(None) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await assets.register(uow, EUR, "EUR", 2)
    first = random.SystemRandom().randrange(2**32)
    met: Counter[str] = Counter()
    for seed in range(first, first + 20):
        met += await run_stream(database, seed, 12)
    assert {code.value for code in ResultCode} - set(met) == {"transfer_archived"}, f"seed {first}: {met}"
