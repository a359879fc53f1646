"""Withdrawals against a real Postgres: asked for, decided, carried out, ended; the books after each end."""

from __future__ import annotations

import pytest

from custody.approvals.errors import DecisionExistsDifferent
from custody.chains.errors import InvalidAddress, UnsupportedChain
from custody.chains.stellar.address import muxed
from custody.db.session import Database
from custody.kernel.errors import CustodyError
from custody.kernel.ids import TenantId, WalletId, WithdrawalId, new_uuid
from custody.kernel.money import AmountNotPositive, AmountTooLarge
from custody.ledger.errors import InsufficientFunds
from custody.policy.errors import PolicyDenies
from custody.policy.model import Word
from custody.signing.errors import InvalidDecision
from custody.wallets.errors import UnknownWallet
from custody.withdrawals import service as withdrawals
from custody.withdrawals.errors import (
    CancelTooLate,
    DecisionTooLate,
    DestinationIsOurs,
    InvalidMemo,
    MemoNotAllowed,
    NotATrustline,
    UnknownWithdrawal,
    WithdrawalExistsDifferent,
)
from custody.withdrawals.model import Memo
from tests.fakes.finality import lapse_due
from tests.fakes.withdrawal_world import (
    ETH,
    EVM,
    FUNDS,
    OUTSIDE,
    STELLAR,
    USDC,
    VAULT,
    VAULT_ACCOUNT,
    XLM,
    World,
    make_decision,
)

pytestmark = pytest.mark.usefixtures("told_as_promised")


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


@pytest.mark.parametrize(("asset", "chain"), [(XLM, STELLAR), (ETH, EVM)])
async def test_approved_withdrawal_is_paid_once_and_settled_at_finality(world: World, asset, chain):
    made = await world.request(asset, approve=("alice",))
    assert made.state == "awaiting_approval"
    assert (await world.decide(made, "bob")).state == "approved"
    assert await world.money(asset) == (FUNDS, 1000, FUNDS, 0)
    assert await world.advance(made) == "broadcasting"
    height = await world.ingest(chain, final=0)
    assert await world.state(made) == "confirming"
    async with world.db.unit_of_work(world.tenant) as uow:
        await lapse_due(uow, chain, height)
    assert await world.state(made) == "settled"
    assert await world.money(asset) == (FUNDS - 1000, 0, FUNDS - 1100, 100)
    assert len(world.chains[chain].included) == 1
    view = await world.view(made)
    assert [each.state for each in view.attempts] == ["confirmed"]
    assert view.verdict.missing == 0


async def test_same_request_is_the_same_withdrawal(world: World):
    made = await world.request()
    again = await world.request(id=made.id)
    assert again.digest == made.digest
    assert (await world.money())[1] == 1000
    with pytest.raises(WithdrawalExistsDifferent):
        await world.request(amount=1001, id=made.id)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"amount": 0}, AmountNotPositive),
        ({"amount": -5}, AmountNotPositive),
        ({"amount": 2**63}, AmountTooLarge),
        ({"destination": "GBADADDRESS"}, InvalidAddress),
        ({"destination": OUTSIDE[EVM]}, InvalidAddress),
        ({"destination": VAULT_ACCOUNT[STELLAR]}, DestinationIsOurs),
        ({"destination": muxed(VAULT_ACCOUNT[STELLAR], 7)}, DestinationIsOurs),
        ({"destination": muxed(OUTSIDE[STELLAR], 7), "memo": Memo(type="id", value="1")}, MemoNotAllowed),
        ({"memo": Memo(type="id", value=str(2**64))}, InvalidMemo),
        ({"memo": Memo(type="text", value="x" * 29)}, InvalidMemo),
        ({"memo": Memo(type="hash", value="AB" * 32)}, InvalidMemo),
        ({"wallet_id": WalletId(new_uuid())}, UnknownWallet),
        ({"amount": FUNDS // 2 + 1}, PolicyDenies),
        ({"asset": ETH, "destination": OUTSIDE[EVM].lower().replace("0x5a", "0x5A")}, InvalidAddress),
        ({"asset": ETH, "destination": OUTSIDE[EVM], "memo": Memo(type="id", value="1")}, MemoNotAllowed),
    ],
)
async def test_bad_request_is_refused_and_changes_nothing(world: World, changes, error: type[CustodyError]):
    with pytest.raises(error):
        await world.request(**changes)
    assert await world.money() == (FUNDS, 0, FUNDS, 0)
    async with world.db.read(world.tenant) as session:
        assert await withdrawals.list_withdrawals(session) == []


async def test_a_wallet_cannot_promise_the_same_money_twice(world: World):
    for _ in range(2):
        await world.request(amount=FUNDS // 2)
    with pytest.raises(InsufficientFunds):
        await world.request(amount=1)


async def test_one_veto_rejects_releases_and_reaches_the_signer(world: World):
    made = await world.request(approve=("alice", "bob"))
    assert made.state == "approved"
    rejected = await world.decide(made, "carol", Word.REJECT)
    assert rejected.state == "rejected"
    assert await world.money() == (FUNDS, 0, FUNDS, 0)
    await world.advance(made)
    assert world.signer.vetoed == {made.digest}
    with pytest.raises(CancelTooLate):
        async with world.db.unit_of_work(world.tenant) as uow:
            await withdrawals.cancel(uow, world.principal, made.id)


async def test_an_approver_decides_once(world: World):
    made = await world.request(approve=("alice",))
    assert (await world.decide(made, "alice")).state == "awaiting_approval"
    with pytest.raises(DecisionExistsDifferent):
        await world.decide(made, "alice", Word.REJECT)
    assert len((await world.view(made)).decisions) == 1
    await world.decide(made, "bob")
    await world.advance(made)
    assert (await world.decide(made, "alice")).state == "broadcasting"
    with pytest.raises(DecisionTooLate):
        await world.decide(made, "carol", Word.REJECT)


async def test_a_decision_about_another_intent_is_refused(world: World):
    one, other = await world.request(), await world.request()
    with pytest.raises(InvalidDecision):
        async with world.db.unit_of_work(world.tenant) as uow:
            await withdrawals.decide(uow, one.id, make_decision(other.intent, "alice"))


async def test_cancelled_withdrawal_cannot_be_rejected_and_cancel_ends_at_the_key(world: World):
    made = await world.request(approve=("alice", "bob"))
    for _ in range(2):
        async with world.db.unit_of_work(world.tenant) as uow:
            assert (await withdrawals.cancel(uow, world.principal, made.id)).state == "cancelled"
    assert await world.money() == (FUNDS, 0, FUNDS, 0)
    with pytest.raises(DecisionTooLate):
        await world.decide(made, "carol", Word.REJECT)
    assert await world.advance(made) == "cancelled"
    touched = await world.request(approve=("alice", "bob"))
    await world.advance(touched)
    with pytest.raises(CancelTooLate):
        async with world.db.unit_of_work(world.tenant) as uow:
            await withdrawals.cancel(uow, world.principal, touched.id)


async def test_window_closes_on_what_is_not_approved_and_on_what_is(world: World):
    waiting, ready = await world.request(approve=("alice",)), await world.request(approve=("alice", "bob"))
    async with world.db.unit_of_work(world.tenant) as uow:
        assert await withdrawals.expire_due(uow, world.clock.now()) == 0
    world.clock.advance(3600)
    assert await world.advance(ready) == "approved"
    async with world.db.unit_of_work(world.tenant) as uow:
        assert await withdrawals.expire_due(uow, world.clock.now()) == 2
    assert [await world.state(each) for each in (waiting, ready)] == ["expired", "expired"]
    assert await world.money() == (FUNDS, 0, FUNDS, 0)


async def test_failure_on_chain_releases_the_hold_and_books_the_fee(world: World):
    made = await world.request(approve=("alice", "bob"))
    await world.advance(made)
    world.chains[STELLAR].fails_on_chain = True
    await world.ingest(STELLAR)
    assert await world.state(made) == "failed"
    assert await world.money() == (FUNDS, 0, FUNDS - 100, 100)


async def test_trustline_is_opened_under_the_same_quorum_without_a_hold(world: World):
    async with world.db.unit_of_work(world.tenant) as uow:
        made = await withdrawals.request_trustline(
            uow,
            world.principal,
            WithdrawalId(new_uuid()),
            VAULT[STELLAR],
            USDC,
            settings=world.settings,
            clock=world.clock,
        )
    for name in ("alice", "bob"):
        await world.decide(made, name)
    assert await world.advance(made) == "broadcasting"
    await world.ingest(STELLAR)
    assert await world.state(made) == "settled"
    assert await world.money() == (FUNDS, 0, FUNDS - 100, 100)
    with pytest.raises(NotATrustline):
        async with world.db.unit_of_work(world.tenant) as uow:
            await withdrawals.request_trustline(
                uow,
                world.principal,
                WithdrawalId(new_uuid()),
                VAULT[EVM],
                USDC,
                settings=world.settings,
                clock=world.clock,
            )


async def test_a_vault_asks_for_memos_under_the_same_quorum_without_a_hold(world: World):
    async def ask(withdrawal_id: WithdrawalId, vault_id=VAULT[STELLAR]):
        async with world.db.unit_of_work(world.tenant) as uow:
            return await withdrawals.request_memo_required(
                uow, world.principal, withdrawal_id, vault_id, settings=world.settings, clock=world.clock
            )

    made = await ask(WithdrawalId(new_uuid()))
    assert (made.kind, made.amount, made.state) == ("memo_required", 0, "awaiting_approval")
    assert (await ask(made.id)).digest == made.digest
    with pytest.raises(WithdrawalExistsDifferent):
        await ask(made.id, VAULT[EVM])
    with pytest.raises(UnsupportedChain):
        await ask(WithdrawalId(new_uuid()), VAULT[EVM])
    await world.decide(made, "alice")
    await world.decide(made, "bob")
    await world.advance(made)
    await world.ingest(STELLAR)
    assert await world.state(made) == "settled"
    assert await world.money() == (FUNDS, 0, FUNDS - 100, 100)


async def test_another_tenant_sees_nothing(world: World, other_tenant: TenantId):
    made = await world.request()
    async with world.db.read(other_tenant) as session:
        assert await withdrawals.list_withdrawals(session) == []
        with pytest.raises(UnknownWithdrawal):
            await withdrawals.get(session, made.id)


async def test_pages_follow_the_order_of_arrival(world: World):
    made = [(await world.request()).id for _ in range(5)]
    async with world.db.read(world.tenant) as session:
        first = await withdrawals.list_withdrawals(session, None, 3)
        rest = await withdrawals.list_withdrawals(session, first[-1].id, 3)
    assert [each.id for each in (*first, *rest)] == made
