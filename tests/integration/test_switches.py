"""Kill switches on a real Postgres: one person stops, from the commit on and without a moment between; two let it go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from custody.db.session import Database
from custody.exchanges import service as exchanges
from custody.kernel.ids import (
    CustomerId,
    TenantId,
    TransferId,
    WalletId,
    derived_uuid,
    new_uuid,
)
from custody.kernel.money import Amount
from custody.payouts import service as payouts
from custody.policy.model import Decision
from custody.signing.model import SignedTransaction, Slot
from custody.switches import service as switches
from custody.switches.errors import (
    BadSwitchReason,
    NeedsSecondPerson,
    NothingToStop,
    NotProposed,
    StoppedBySwitch,
    SwitchExistsDifferent,
    UnknownSwitch,
)
from custody.switches.model import Place, Scope, Switch, of_vault
from custody.transfers import service as transfers
from custody.transfers.bulk import accept
from custody.transfers.model import BulkTransfer, RequestTransfer
from custody.wallets import service as wallets
from custody.withdrawals import service as withdrawals
from tests.fakes.faults import Crash
from tests.fakes.fiat import NOW, make_fiat
from tests.fakes.signer import FakeSigner
from tests.fakes.withdrawal_world import ETH, EVM, START, STELLAR, VAULT, WALLET, XLM, World
from tests.integration.switch_stage import (
    actions,
    exchange_with,
    operator,
    resume,
    second_wallet,
    stop,
    transfer_to,
)

pytestmark = pytest.mark.usefixtures("told_as_promised")

ADA = Place(Scope.CUSTOMER, str(derived_uuid("customer", 1)))
TWO = ("alice", "bob")


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


# --- the switch itself ------------------------------------------------------------------------------------------------------


async def test_one_person_stops_and_two_let_it_go_on(world: World) -> None:
    db, tenant = world.db, world.tenant
    place, olga, otto = Place(Scope.CHAIN, STELLAR), operator(tenant, "olga"), operator(tenant, "otto")
    made = await stop(db, tenant, place)
    assert await stop(db, tenant, place, made.id) == made
    with pytest.raises(SwitchExistsDifferent):
        await stop(db, tenant, Place(Scope.CHAIN, EVM), made.id)
    async with db.unit_of_work(tenant) as uow:
        with pytest.raises(NotProposed):
            await switches.confirm_resume(uow, otto, made.id, "seen")
        proposed = await switches.propose_resume(uow, olga, made.id, "right again")
        assert (proposed.state, proposed.proposed_by) == ("resume_proposed", "olga")
        assert await switches.propose_resume(uow, otto, made.id, "so say I") == proposed
        # Another credential of the same person is the same person.
        with pytest.raises(NeedsSecondPerson):
            await switches.confirm_resume(uow, operator(tenant, "olga"), made.id, "seen")
        assert await switches.find_stopped(uow, [place]) == proposed
    async with db.unit_of_work(tenant) as uow:
        resumed = await switches.confirm_resume(uow, otto, made.id, "seen")
        assert await switches.confirm_resume(uow, otto, made.id, "seen") == resumed
        assert (resumed.state, resumed.resumed_by) == ("resumed", "otto")
        assert await switches.find_stopped(uow, [place]) is None
        assert [each.id for each in await switches.list_switches(uow)] == [made.id]
        assert await switches.list_standing(uow) == []
    told = [each for each in await actions(world) if each.startswith("switch.")]
    assert told == ["switch.stopped", "switch.resume_proposed", "switch.resumed"]


async def test_a_slip_stops_nothing_and_is_refused(world: World) -> None:
    for place in (
        Place(Scope.CHAIN, "stellar:devnett"),
        Place(Scope.ASSET, "stellar:devnet/EURC"),
        Place(Scope.ASSET, ETH.text.upper()),
        Place(Scope.VAULT, str(new_uuid())),
        Place(Scope.VAULT, str(VAULT[EVM]).upper()),
        Place(Scope.CUSTOMER, "ada"),
        Place(Scope.RAIL, "sandbox"),
    ):
        with pytest.raises(NothingToStop):
            await stop(world.db, world.tenant, place)
    async with world.db.unit_of_work(world.tenant) as uow:
        with pytest.raises(BadSwitchReason):
            await switches.stop(uow, operator(world.tenant, "olga"), new_uuid(), ADA, " ")
        with pytest.raises(UnknownSwitch):
            await switches.propose_resume(uow, operator(world.tenant, "olga"), new_uuid(), "seen")


_STEP = (
    "INSERT INTO switch_resumes (tenant_id, stop_id, step, follows, actor, reason) "
    "SELECT tenant_id, id, {step}, 'mallory', 'x' FROM switch_stops"
)


async def carry_out(world: World, *statements: str) -> None:
    async with world.db.unit_of_work(world.tenant) as uow:
        for statement in statements:
            await uow.conn.execute(text(statement))


@pytest.mark.parametrize(
    "statements",
    [
        ("DELETE FROM switch_stops",),
        ("UPDATE switch_stops SET subject = 'stellar:other'",),
        (_STEP.format(step="2, 1"),),
        (_STEP.format(step="1, NULL"), _STEP.format(step="2, 1")),
    ],
    ids=["deleted", "edited", "never proposed", "by one person"],
)
async def test_the_database_lets_nobody_end_a_stop_another_way(
    world: World, statements: tuple[str, ...]
) -> None:
    await stop(world.db, world.tenant, Place(Scope.CHAIN, STELLAR))
    with pytest.raises(DBAPIError):
        await carry_out(world, *statements)


# --- what it keeps from leaving ---------------------------------------------------------------------------------------------


async def test_nothing_new_is_asked_for_where_it_is_stopped_and_elsewhere_all_goes_on(world: World) -> None:
    known = await world.request(XLM)
    for place in (
        Place(Scope.CHAIN, STELLAR),
        Place(Scope.ASSET, XLM.text),
        of_vault(VAULT[STELLAR]),
        ADA,
    ):
        made = await stop(world.db, world.tenant, place)
        before = await world.money(XLM)
        with pytest.raises(StoppedBySwitch) as refused:
            await world.request(XLM)
        assert refused.value.values["switch"] == str(made.id)
        assert await world.money(XLM) == before
        # The same request again gets the answer that it had.
        assert (await world.request(XLM, id=known.id)).id == known.id
        if place.scope is not Scope.CUSTOMER:
            await world.request(ETH)
        await resume(world.db, made, world.tenant)
        await world.request(XLM)


@pytest.mark.parametrize("asset", [XLM, ETH], ids=["stellar", "evm"])
async def test_what_is_approved_waits_and_says_so_can_be_cancelled_and_goes_on(world: World, asset) -> None:
    paid = await world.request(asset, approve=TWO)
    taken_back = await world.request(asset, approve=TWO)
    made = await stop(world.db, world.tenant, ADA)
    for each in (paid, taken_back):
        assert await world.advance(each) == "approved"
    seen = await world.view(paid)
    assert (seen.withdrawal.stuck_reason, seen.attempts) == ("stopped", ())
    async with world.db.unit_of_work(world.tenant) as uow:
        assert (await withdrawals.cancel(uow, world.principal, taken_back.id)).state == "cancelled"
    await resume(world.db, made, world.tenant)
    assert await world.advance(paid) == "broadcasting"
    assert (await world.view(paid)).withdrawal.stuck_reason == ""


class SlowSigner(FakeSigner):
    """While it signs, an operator stops the vault."""

    stopped: Switch | None = None
    world: World

    async def sign(self, intent: bytes, decisions: Sequence[Decision], slot: Slot) -> SignedTransaction:
        signed = await super().sign(intent, decisions, slot)
        self.stopped = await stop(self.world.db, self.world.tenant, of_vault(VAULT[EVM]))
        return signed


async def test_what_was_signed_meanwhile_is_not_sent_while_stopped(world: World) -> None:
    withdrawal = await world.request(ETH, approve=TWO)
    slow = SlowSigner(world.policy, world.clock, world.faults)
    slow.world = world
    world.means = replace(world.means, signer=slow)
    assert await world.advance(withdrawal) == "broadcasting"
    assert await world.advance(withdrawal) == "broadcasting"
    assert (await world.view(withdrawal)).withdrawal.stuck_reason == "stopped"
    assert world.chains[EVM].sent == []
    assert slow.stopped is not None
    await resume(world.db, slow.stopped, world.tenant)
    await world.advance(withdrawal)
    assert len(world.chains[EVM].sent) == 1
    assert (await world.view(withdrawal)).withdrawal.stuck_reason == ""


async def test_a_slot_without_a_signature_gets_none_while_stopped(world: World) -> None:
    withdrawal = await world.request(ETH, approve=TWO)
    world.faults.arm("before sign")
    with pytest.raises(Crash):
        await world.advance(withdrawal)
    made = await stop(world.db, world.tenant, of_vault(VAULT[EVM]))
    assert await world.advance(withdrawal) == "signing"
    assert (await world.view(withdrawal)).withdrawal.stuck_reason == "stopped"
    assert world.signer.journal == {}
    await resume(world.db, made, world.tenant)
    assert await world.advance(withdrawal) == "broadcasting"


async def test_a_signer_that_is_stopped_is_waited_for_and_nothing_is_given_back(world: World) -> None:
    withdrawal = await world.request(ETH, approve=TWO)
    held = await world.money(ETH)
    world.signer.refuses_with = "stopped"
    assert await world.advance(withdrawal) == "signing"
    assert (await world.view(withdrawal)).withdrawal.stuck_reason == "stopped_by_signer"
    assert await world.money(ETH) == held
    world.signer.refuses_with = ""
    assert await world.advance(withdrawal) == "broadcasting"
    assert (await world.view(withdrawal)).withdrawal.stuck_reason == ""


async def test_a_customer_who_is_stopped_keeps_nobody_else_waiting_in_line(world: World) -> None:
    bert = CustomerId(new_uuid())
    wallet = WalletId(new_uuid())
    async with world.db.unit_of_work(world.tenant) as uow:
        await wallets.create_customer(uow, "test", bert, name="Bert", external_ref="bert")
        await wallets.create_wallet(uow, "test", wallet, bert, "main")
        moved = RequestTransfer(
            id=TransferId(new_uuid()),
            source_wallet_id=WALLET,
            destination_wallet_id=wallet,
            amount=Amount(XLM, 5000),
            fee=None,
        )
        await transfers.request(uow, world.principal, moved)
    first = await world.request(XLM, approve=TWO)
    second = await world.request(XLM, wallet_id=wallet, approve=TWO)
    await stop(world.db, world.tenant, ADA)
    assert await world.advance(first) == "approved"
    assert await world.advance(second) == "broadcasting"


async def test_nothing_moves_inside_the_books_either(world: World) -> None:
    tenant, other = world.tenant, await second_wallet(world)
    done, asked = transfer_to(other), transfer_to(other)
    exchange = exchange_with(other)
    async with world.db.unit_of_work(tenant) as uow:
        await transfers.request(uow, world.principal, done)
    before = await world.money(XLM)
    for place in (ADA, Place(Scope.ASSET, XLM.text)):
        made = await stop(world.db, tenant, place)
        with pytest.raises(StoppedBySwitch):
            async with world.db.unit_of_work(tenant) as uow:
                await transfers.request(uow, world.principal, asked)
        with pytest.raises(StoppedBySwitch):
            async with world.db.unit_of_work(tenant) as uow:
                await accept(uow, world.principal, new_uuid(), [BulkTransfer(wanted=asked, group=None)])
        with pytest.raises(StoppedBySwitch):
            async with world.db.unit_of_work(tenant) as uow:
                await exchanges.request(uow, world.principal, exchange, START)
        async with world.db.unit_of_work(tenant) as uow:
            assert (await transfers.request(uow, world.principal, done)).id == done.id
        await resume(world.db, made, tenant)
    assert await world.money(XLM) == before


async def test_a_rail_that_is_stopped_takes_no_payout_and_claims_none(
    database: Database, tenant: TenantId
) -> None:
    fiat = await make_fiat(database, tenant)
    await fiat.fund(10_000)
    first, second = await fiat.request(1_000), await fiat.request(1_000)

    async def claimed() -> object:
        async with database.unit_of_work(tenant) as uow:
            found = await payouts.claim(uow, ("sandbox",), NOW, timedelta(seconds=20))
        return None if found is None else found.payout_id

    async with database.read(tenant) as session:
        customer = (await wallets.get_wallet(session, first.wallet_id)).customer_id
    for place in (
        Place(Scope.RAIL, "sandbox"),
        Place(Scope.CUSTOMER, str(customer)),
        Place(Scope.ASSET, first.amount.asset.text),
    ):
        made = await stop(database, tenant, place)
        with pytest.raises(StoppedBySwitch):
            await fiat.request(1_000)
        assert await claimed() is None
        await resume(database, made, tenant)
    assert [await claimed(), await claimed()] == [first.id, second.id]
