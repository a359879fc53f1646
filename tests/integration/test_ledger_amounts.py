"""The edges of what an amount and an account can hold."""

from __future__ import annotations

import pytest

from custody.assets import service as assets
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import MAX_ATOMIC, Amount
from custody.ledger import postings, service
from custody.ledger.model import (
    AccountKey,
    AccountKind,
    Command,
    Hold,
    OpenAccount,
    PostHold,
    Reverse,
    Transfer,
    TransferCode,
)
from tests.fakes.ledger_invariants import broken_invariants

WEI = parse_asset_id("eip155:31337/native")
EQUITY = AccountKey(kind=AccountKind.EQUITY, owner=None, asset=WEI)
WALLET = postings.wallet_account(derived_uuid("wallet"), WEI)
VALID = [
    1,
    2**53 + 1,
    2**63 - 1,
    2**63,
    2**63 + 1,
    2**127,
    2**128,
    2**128 + 1,
    10**77,
    2**256 - 2,
    2**256 - 1,
]
INVALID = {
    0: "amount_not_positive",
    -1: "amount_not_positive",
    -(2**256): "amount_not_positive",
    2**256: "amount_too_large",
    10**78 - 1: "amount_too_large",
    10**78: "amount_too_large",
    10**200: "amount_too_large",
}


@pytest.fixture(autouse=True)
async def opened(database: Database, tenant: TenantId) -> None:
    async with database.unit_of_work(tenant) as uow:
        await assets.register(uow, WEI, "ETH", 18)
        await service.post(uow, OpenAccount(key=EQUITY), OpenAccount(key=WALLET))


def moved(kind: type[Transfer | Hold], atomic: int, debit: AccountKey = EQUITY) -> Transfer | Hold:
    return kind(
        id=new_uuid(),
        debit=debit,
        credit=WALLET if debit is EQUITY else EQUITY,
        amount=Amount(WEI, atomic),
        code=TransferCode.DEPOSIT,
        reference=derived_uuid("reference"),
    )


async def results(database: Database, tenant: TenantId, *commands: Command) -> list[str]:
    async with database.unit_of_work(tenant) as uow:
        outcomes = await service.submit(uow, [[command] for command in commands])
    async with database.read(tenant) as session:
        assert await broken_invariants(session) == []
    return [outcome.result.value for outcome in outcomes]


async def balance(database: Database, tenant: TenantId) -> tuple[int, int]:
    async with database.read(tenant) as session:
        found = await service.balance(session, WALLET)
    return found.posted, found.available


async def test_amounts_up_to_a_uint256_are_booked_exactly(database: Database, tenant: TenantId) -> None:
    for atomic in VALID:
        owner = postings.wallet_account(derived_uuid("wallet", atomic), WEI)
        source = AccountKey(kind=AccountKind.VAULT, owner=derived_uuid("vault", atomic), asset=WEI)
        deposit = Transfer(
            id=new_uuid(),
            debit=source,
            credit=owner,
            amount=Amount(WEI, atomic),
            code=TransferCode.DEPOSIT,
            reference=derived_uuid("reference"),
        )
        assert (
            await results(database, tenant, OpenAccount(key=owner), OpenAccount(key=source), deposit)
            == ["applied"] * 3
        )
        async with database.read(tenant) as session:
            (entry,) = await service.statement(session, owner)
            assert (entry.posted, entry.balance, entry.held) == (atomic, atomic, 0)
            assert (await service.balance(session, owner)).available == atomic
            assert (await service.balance_at(session, source, entry.booked_at)).posted == atomic
        assert await results(database, tenant, Reverse(id=new_uuid(), transfer_id=deposit.id)) == ["applied"]


async def test_a_whole_uint256_is_held_and_posted(database: Database, tenant: TenantId) -> None:
    hold = moved(Hold, MAX_ATOMIC, WALLET)
    posted = PostHold(id=new_uuid(), hold_id=hold.id, amount=Amount(WEI, MAX_ATOMIC - 1))
    rest = PostHold(id=new_uuid(), hold_id=hold.id)
    answered = await results(database, tenant, moved(Transfer, MAX_ATOMIC), hold, posted, rest)
    assert answered == ["applied"] * 4
    assert await balance(database, tenant) == (0, 0)


async def test_an_account_overflows_into_a_refusal(database: Database, tenant: TenantId) -> None:
    answered = await results(
        database,
        tenant,
        moved(Transfer, MAX_ATOMIC - 1),
        moved(Transfer, 2),
        moved(Transfer, 1),
        moved(Hold, 1),
    )
    assert answered == ["applied", "amount_too_large", "applied", "amount_too_large"]
    assert await balance(database, tenant) == (MAX_ATOMIC, MAX_ATOMIC)


async def test_amounts_out_of_range_are_refused_and_change_nothing(
    database: Database, tenant: TenantId
) -> None:
    commands = [moved(kind, atomic) for atomic in INVALID for kind in (Transfer, Hold)]
    assert await results(database, tenant, *commands) == [r for r in INVALID.values() for _ in range(2)]
    async with database.read(tenant) as session:
        assert await service.statement(session, WALLET) == []


async def test_a_thousand_transfers_between_two_accounts_in_one_call(
    database: Database, tenant: TenantId
) -> None:
    back_and_forth = [
        moved(Transfer, 3),
        *(moved(Transfer, 1, k) for _ in range(500) for k in (WALLET, EQUITY)),
    ]
    assert await results(database, tenant, *back_and_forth) == ["applied"] * 1001
    assert await balance(database, tenant) == (3, 3)
