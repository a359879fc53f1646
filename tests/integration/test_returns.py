"""Returns: suspended money goes back to its sender under the quorum, once, or the case is open again."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from custody.chains.stellar.address import muxed
from custody.db.session import Database
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.deposits.errors import CaseDecided, CreditSpent
from custody.deposits.model import DepositCase
from custody.kernel.errors import CustodyError, InvariantViolated
from custody.kernel.ids import TenantId, WithdrawalId, new_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Balance
from custody.policy.model import Word
from custody.returns import service as returns
from custody.returns.errors import NoSender, NotTheSender
from custody.returns.service import RequestReturn
from custody.screening import service as screening
from custody.wallets.model import VaultRef
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import NO_MEMO, Memo, Withdrawal
from tests.fakes.finality import credit_final, lapse_due
from tests.fakes.withdrawal_world import FUNDS, OUTSIDE, STELLAR, VAULT, VAULT_ACCOUNT, WALLET, XLM, World
from tests.integration.test_deposits_service import arrival

SENDER = OUTSIDE[STELLAR]
OTHER = "GBRPYHIL2CI3FNQ4BXLFMNDLFJUNPU2HY3ZMFSHONUCEOASW7QC7OX2H"


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


async def suspend(world: World, source: str = SENDER, tx_hash: str = "01") -> DepositCase:
    vault = VaultRef(tenant=world.tenant, vault_id=VAULT[STELLAR], account=VAULT_ACCOUNT[STELLAR])
    seen = arrival(account=vault.account, tag=None, source=source, tx_hash=tx_hash)
    async with world.db.unit_of_work(world.tenant) as uow:
        await deposits.observe(uow, vault, seen)
        await credit_final(uow, STELLAR, 100)
        return (await cases.list_cases(uow))[-1]


async def ask(world: World, case: DepositCase, **changes: object) -> Withdrawal:
    wanted = RequestReturn(
        id=WithdrawalId(new_uuid()),
        case_id=case.id,
        destination=SENDER,
        memo=Memo(type="id", value="42"),
        note="the sender asked",
    )
    async with world.db.unit_of_work(world.tenant) as uow:
        _, made = await returns.request(
            uow, world.principal, replace(wanted, **changes), settings=world.settings, clock=world.clock
        )
    return made


async def case_now(world: World, case: DepositCase) -> DepositCase:
    """The case as it stands; suspense is accounted for, or this raises."""
    async with world.db.read(world.tenant) as session:
        assert await cases.differences(session) == {}
        return await cases.get_case(session, case.id)


async def suspense(world: World) -> Balance:
    async with world.db.read(world.tenant) as session:
        return await ledger.balance(session, postings.suspense_account(XLM))


async def test_a_return_is_paid_out_of_suspense_by_the_quorum_and_ends_its_case(world: World) -> None:
    case = await suspend(world)
    made = await ask(world, case)
    assert (made.kind, made.wallet_id, made.amount, made.destination) == ("return", None, 500, SENDER)
    assert made.memo == Memo(type="id", value="42")
    held = await suspense(world)
    assert (held.posted, held.pending_out) == (500, 500)
    assert (await case_now(world, case)).state == "returning"
    assert (await world.decide(made, "alice")).state == "awaiting_approval"
    await world.decide(made, "bob")
    assert await world.advance(made) == "broadcasting"
    height = await world.ingest(STELLAR, final=0)
    assert (await case_now(world, case)).state == "returning"
    async with world.db.unit_of_work(world.tenant) as uow:
        await lapse_due(uow, STELLAR, height)
    ended = await case_now(world, case)
    assert (ended.state, ended.withdrawal_id) == ("returned", made.id)
    assert (await suspense(world)).posted == 0
    wallet, held_on_wallet, vault, fees = await world.money()
    assert (wallet, held_on_wallet, vault) == (FUNDS, 0, FUNDS - fees)
    async with world.db.read(world.tenant) as session:
        (deposit,) = await deposits.list_deposits(session)
    assert deposit.state == "returned"
    with pytest.raises(CaseDecided):
        await ask(world, case)
    with pytest.raises(CaseDecided):
        async with world.db.unit_of_work(world.tenant) as uow:
            await cases.assign(uow, "ops", case.id, WALLET)


@pytest.mark.parametrize("end", ["reject", "cancel", "expire", "fail"])
async def test_a_return_that_ends_unpaid_opens_its_case_again(world: World, end: str) -> None:
    case = await suspend(world)
    made = await ask(world, case)
    async with world.db.unit_of_work(world.tenant) as uow:
        assert await returns.reopen_unpaid(uow) == 0, "it may still pay"
    if end == "reject":
        await world.decide(made, "carol", Word.REJECT)
    elif end == "cancel":
        async with world.db.unit_of_work(world.tenant) as uow:
            await withdrawals.cancel(uow, world.principal, made.id)
    elif end == "expire":
        world.clock.advance(world.settings.intent_valid_s + 1)
        async with world.db.unit_of_work(world.tenant) as uow:
            await withdrawals.expire_due(uow, world.clock.now())
    else:
        await world.decide(made, "alice")
        await world.decide(made, "bob")
        await world.advance(made)
        world.chains[STELLAR].fails_on_chain = True
        await world.ingest(STELLAR)
        assert await world.state(made) == "failed"
    assert (await case_now(world, case)).state == "returning"
    for opened in (1, 0):
        async with world.db.unit_of_work(world.tenant) as uow:
            assert await returns.reopen_unpaid(uow) == opened
    again = await case_now(world, case)
    assert (again.state, again.withdrawal_id) == ("open", None)
    assert (await suspense(world)).pending_out == 0
    async with world.db.unit_of_work(world.tenant) as uow:
        await cases.assign(uow, "ops", case.id, WALLET)
    assert (await world.money())[0] == FUNDS + 500


async def test_a_return_to_a_refused_sender_is_blocked_and_its_case_opens_again(world: World) -> None:
    case = await suspend(world)
    async with world.db.unit_of_work(world.tenant) as uow:
        await screening.refuse(uow, "ops", STELLAR, SENDER, source="sanctions")
    assert (await ask(world, case)).state == "blocked"
    assert (await suspense(world)).pending_out == 0
    async with world.db.unit_of_work(world.tenant) as uow:
        assert await returns.reopen_unpaid(uow) == 1
    assert (await case_now(world, case)).state == "open"


async def test_asking_again_need_not_wait_for_the_sweep(world: World) -> None:
    case = await suspend(world)
    first = await ask(world, case)
    with pytest.raises(CaseDecided):
        await ask(world, case)
    await world.decide(first, "carol", Word.REJECT)
    second = await ask(world, case)
    assert (await case_now(world, case)).withdrawal_id == second.id
    assert (await ask(world, case, id=second.id)).digest == second.digest


async def test_a_sweep_that_looked_before_a_second_return_was_asked_for_leaves_that_alone(
    world: World,
) -> None:
    """The sweep reads the case while its first return is rejected, and comes to its row when a second may already pay: opened
    then, a third would be paid out of other people's suspense."""
    case = await suspend(world)
    await suspend(world, tx_hash="02")
    first = await ask(world, case)
    seen = await case_now(world, case)
    await world.decide(first, "carol", Word.REJECT)
    second = await ask(world, case)
    async with world.db.unit_of_work(world.tenant) as uow:
        left = await cases.reopen(uow, "sweep", seen)
    assert (left.state, left.withdrawal_id) == ("returning", second.id)
    with pytest.raises(CaseDecided):
        await ask(world, case)
    await world.decide(second, "alice")
    await world.decide(second, "bob")
    await world.advance(second)
    await world.ingest(STELLAR)
    assert (await case_now(world, case)).state == "returned"
    assert (await suspense(world)).posted == 500


async def test_a_return_that_is_paid_without_a_case_is_never_passed_over(world: World) -> None:
    case = await suspend(world)
    made = await ask(world, case)
    async with world.db.unit_of_work(world.tenant) as uow:
        await cases.reopen(uow, "somebody", await cases.get_case(uow, case.id))
        with pytest.raises(InvariantViolated, match="without its case"):
            await returns.settle(uow, "ingestion", [made])


async def test_of_many_who_return_or_assign_at_once_one_does(world: World) -> None:
    case = await suspend(world)

    async def assign() -> str:
        async with world.db.unit_of_work(world.tenant) as uow:
            return (await cases.assign(uow, "ops", case.id, WALLET)).state

    async def give_back() -> str:
        return (await ask(world, case)).kind

    async def told(act: object) -> str:
        try:
            return await act()  # type: ignore[operator]  # one of the two above
        except CaseDecided as error:
            return error.code

    answers = await asyncio.gather(*(told(act) for act in (assign, give_back) * 4))
    won = {answer for answer in answers if answer != "case_decided"}
    assert len(won) == 1
    paid = await case_now(world, case)
    assert paid.state == ("assigned" if won == {"assigned"} else "returning")
    async with world.db.read(world.tenant) as session:
        asked = await withdrawals.list_withdrawals(session)
    assert len(asked) == (1 if won == {"return"} else 0)


@pytest.mark.parametrize(
    ("source", "changes", "error"),
    [
        (SENDER, {"destination": OTHER}, NotTheSender),
        (SENDER, {"destination": muxed(OTHER, 7), "memo": NO_MEMO}, NotTheSender),
        ("", {}, NoSender),
        ("BAAD6DBUX6J22DMZOHIEZTEQ64CVCHEDRKWZONFEUL5Q26QD7R76RGR4TU", {}, NoSender),
        ("CAS3J7GYLGXMF6TDJBBYYSE3HQ6BBSMLNUQ34T6TZMYMW2EVH34XOWMA", {}, NoSender),
    ],
)
async def test_money_goes_back_to_its_sender_or_not_at_all(
    world: World, source: str, changes: dict[str, object], error: type[CustodyError]
) -> None:
    case = await suspend(world, source)
    with pytest.raises(error):
        await ask(world, case, **changes)
    assert (await case_now(world, case)).state == "open"
    assert (await suspense(world)).pending_out == 0


async def test_a_muxed_address_of_the_sender_is_the_sender(world: World) -> None:
    made = await ask(world, await suspend(world), destination=muxed(SENDER, 7), memo=NO_MEMO)
    assert made.destination == muxed(SENDER, 7)


@pytest.mark.parametrize("paid", [False, True])
async def test_a_deposit_that_is_on_its_way_back_cannot_be_taken_back_by_the_chain(
    world: World,
    paid: bool,
) -> None:
    """Another's money waits in suspense: it must not pay for what is gone."""
    case = await suspend(world)
    await suspend(world, tx_hash="02")
    made = await ask(world, case)
    if paid:
        await world.decide(made, "alice")
        await world.decide(made, "bob")
        await world.advance(made)
        await world.ingest(STELLAR)
        assert (await case_now(world, case)).state == "returned"
    with pytest.raises(CreditSpent):
        async with world.db.unit_of_work(world.tenant) as uow:
            await deposits.orphan(uow, STELLAR, 99)
    assert (await suspense(world)).posted == (500 if paid else 1000)
