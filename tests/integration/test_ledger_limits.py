"""Floors and ceilings that were set at opening, and balances by value date."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from custody.assets import service as assets
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import MAX_ATOMIC, Amount
from custody.ledger import postings, service
from custody.ledger.errors import (
    AccountExistsDifferent,
    ExceedsCeiling,
    InsufficientFunds,
    LimitsExcludeZero,
)
from custody.ledger.model import (
    AccountKey,
    AccountKind,
    Hold,
    OpenAccount,
    PostHold,
    Reverse,
    Transfer,
    TransferCode,
    VoidHold,
)

XLM = parse_asset_id("stellar:devnet/native")
EQUITY = AccountKey(kind=AccountKind.EQUITY, owner=None, asset=XLM)
VAULT = postings.vault_account(derived_uuid("vault"), XLM)
ANNA, BERT = (postings.wallet_account(derived_uuid(name), XLM) for name in ("anna", "bert"))


@pytest.fixture(autouse=True)
async def opened(database: Database, tenant: TenantId) -> None:
    """Anna may owe us 30 and have 100."""
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await service.post(uow, *(OpenAccount(key=key) for key in (EQUITY, VAULT, BERT)))
        await service.open_account(uow, ANNA, floor=-30, ceiling=100)


def moved(
    atomic: int,
    debit: AccountKey,
    credit: AccountKey,
    kind: type[Transfer | Hold] = Transfer,
    dated: datetime | None = None,
) -> Transfer | Hold:
    return kind(
        id=new_uuid(),
        debit=debit,
        credit=credit,
        amount=Amount(XLM, atomic),
        code=TransferCode.DEPOSIT,
        reference=new_uuid(),
        **({} if dated is None else {"effective_at": dated}),
    )


async def test_an_account_with_a_floor_may_be_overdrawn_that_far(
    database: Database, tenant: TenantId
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await service.post(uow, moved(29, ANNA, BERT))
        with pytest.raises(InsufficientFunds):
            await service.post(uow, moved(2, ANNA, BERT))
        await service.post(uow, moved(1, ANNA, BERT, Hold))
        with pytest.raises(InsufficientFunds):
            await service.post(uow, moved(1, ANNA, BERT, Hold))
        assert (await service.balance(uow, ANNA)).posted == -29


async def test_a_ceiling_counts_holds_that_may_come_in(database: Database, tenant: TenantId) -> None:
    async with database.unit_of_work(tenant) as uow:
        await service.post(uow, moved(60, VAULT, ANNA), moved(60, VAULT, BERT))
        reserved = moved(40, BERT, ANNA, Hold)
        await service.post(uow, reserved)
        with pytest.raises(ExceedsCeiling) as refused:
            await service.post(uow, moved(1, VAULT, ANNA))
        assert refused.value.values["owner"] == ANNA.owner
        await service.post(uow, PostHold(id=new_uuid(), hold_id=reserved.id))
        assert (await service.balance(uow, ANNA)).posted == 100


async def test_what_is_released_makes_room_again(database: Database, tenant: TenantId) -> None:
    async with database.unit_of_work(tenant) as uow:
        await service.post(uow, moved(40, VAULT, BERT))
        reserved = moved(40, BERT, ANNA, Hold)
        await service.post(uow, reserved)
        await service.post(uow, VoidHold(id=new_uuid(), hold_id=reserved.id))
        await service.post(uow, moved(100, VAULT, ANNA))


async def test_a_mirror_does_not_pass_a_ceiling(database: Database, tenant: TenantId) -> None:
    paid = moved(20, ANNA, BERT)
    async with database.unit_of_work(tenant) as uow:
        await service.post(uow, moved(100, VAULT, ANNA), paid)
        await service.post(uow, moved(15, VAULT, ANNA))
        with pytest.raises(ExceedsCeiling):
            await service.post(uow, Reverse(id=new_uuid(), transfer_id=paid.id))


async def test_a_ceiling_on_the_debit_side_bounds_what_it_may_hold(
    database: Database, tenant: TenantId
) -> None:
    small = postings.vault_account(derived_uuid("small"), XLM)
    async with database.unit_of_work(tenant) as uow:
        await service.open_account(uow, small, ceiling=5)
        await service.post(uow, moved(5, small, EQUITY))
        with pytest.raises(ExceedsCeiling):
            await service.post(uow, moved(1, small, EQUITY))


async def test_limits_are_set_once(database: Database, tenant: TenantId) -> None:
    async with database.unit_of_work(tenant) as uow:
        again = await service.open_account(uow, ANNA)
        assert (again.floor, again.ceiling) == (-30, 100)
        await service.open_account(uow, ANNA, floor=-30, ceiling=100)
        for limits in ({"floor": 0}, {"ceiling": 101}):
            with pytest.raises(AccountExistsDifferent):
                await service.open_account(uow, ANNA, **limits)
        with pytest.raises(AccountExistsDifferent):
            await service.open_account(uow, BERT, ceiling=1)


@pytest.mark.parametrize(
    "limits", [{"floor": 1}, {"ceiling": -1}, {"ceiling": MAX_ATOMIC + 1}, {"floor": -(2**256)}]
)
def test_limits_leave_room_for_nothing(limits: dict[str, int]) -> None:
    with pytest.raises(LimitsExcludeZero):
        OpenAccount(key=ANNA, **limits)


async def test_a_balance_by_value_date_is_the_sum_of_what_takes_effect_by_then(
    database: Database, tenant: TenantId
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    now = datetime.now(UTC)
    for _ in range(40):
        days = chance.choice((None, None, -30, -2, 1, 20))
        dated = None if days is None else now + timedelta(days=days, seconds=chance.randint(0, 3))
        pair = chance.sample((BERT, VAULT, EQUITY), 2)
        async with database.unit_of_work(tenant) as uow:
            await service.submit(uow, [[moved(chance.randint(1, 9), *pair, dated=dated)]])
    query = text("SELECT sum(signed) FROM ledger_entries WHERE account_id = :id AND effective_at <= :at")
    async with database.read(tenant) as session:
        ends = await session.conn.execute(text("SELECT effective_at, booked_at FROM ledger_transfers"))
        for at in {moment for row in ends for moment in row} | {now - timedelta(days=99)}:
            for key, sign in ((BERT, -1), (EQUITY, -1), (VAULT, 1)):
                rows = await session.conn.execute(query, {"id": key.id_for(tenant), "at": at})
                summed = sign * int(rows.scalar_one() or 0)
                assert await service.balance_at_effective(session, key, at) == summed, f"seed {seed}"
        assert await service.balance_at_effective(session, ANNA, now) == 0
