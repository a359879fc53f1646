"""Anchors against a real Postgres: one per checkpoint and chain, under the quorum, with nothing booked but the fee."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from custody.audit import service as audit
from custody.chains.errors import RpcUnreachable, UnsupportedChain
from custody.chains.stellar.lookup import AbsentTransaction, StellarTransaction
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId
from custody.policy.errors import PolicyDenies
from custody.policy.model import Word
from custody.seals import anchors, execution, service
from custody.seals.errors import HistoryAltered, NotSealed
from custody.seals.model import AnchorView
from custody.signing.checkpoints import message_of
from custody.wallets.errors import NoOmnibusVault
from custody.withdrawals import service as withdrawals
from custody.withdrawals.errors import UnsupportedAsset, WithdrawalExistsDifferent
from custody.withdrawals.model import Withdrawal
from tests.fakes.chain import FEE
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.sealed_books import open_books
from tests.fakes.withdrawal_world import EVM, FUNDS, STELLAR, VAULT_ACCOUNT, World, make_policy


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[CheckpointDesk]:
    made = CheckpointDesk(tmp_path)
    yield made
    made.close()


async def seal(world: World, desk: CheckpointDesk) -> None:
    assert await execution.seal_and_sign(world.db, desk, world.tenant)


async def anchor(world: World, chain: ChainId = STELLAR, tenant: TenantId | None = None) -> AnchorView:
    async with world.db.unit_of_work(tenant or world.tenant) as uow:
        return await anchors.anchor_newest(
            uow, world.principal, chain, settings=world.settings, clock=world.clock
        )


async def listed(world: World) -> list[AnchorView]:
    async with world.db.read(world.tenant) as session:
        return await anchors.list_anchors(session)


async def operation_of(world: World, view: AnchorView) -> Withdrawal:
    async with world.db.read(world.tenant) as session:
        return await withdrawals.get(session, view.anchor.withdrawal_id)


async def write(world: World, view: AnchorView) -> None:
    """Two approvals, a worker, and the block that ends it."""
    operation = await operation_of(world, view)
    for name in ("alice", "bob"):
        operation = await world.decide(operation, name)
    assert await world.advance(operation) == "broadcasting"
    await world.ingest(STELLAR)


async def test_an_anchor_waits_for_the_quorum_and_books_nothing_but_its_fee(
    world: World, desk: CheckpointDesk
) -> None:
    await seal(world, desk)
    view = await anchor(world)
    operation = await operation_of(world, view)
    assert (view.state, view.tx_hash, view.account) == ("awaiting_approval", None, VAULT_ACCOUNT[STELLAR])
    assert (operation.kind, operation.amount, operation.wallet_id) == ("anchor", 0, None)
    assert await world.decide(operation, "alice") == operation
    assert await world.advance(operation) == "awaiting_approval"
    assert world.chains[STELLAR].sent == []
    assert await world.money() == (FUNDS, 0, FUNDS, 0)
    await write(world, view)
    (settled,) = await listed(world)
    assert (settled.state, settled.height) == ("settled", world.chains[STELLAR].height)
    assert await world.money() == (FUNDS, 0, FUNDS - FEE, FEE)


async def test_a_checkpoint_is_anchored_once_on_each_chain(world: World, desk: CheckpointDesk) -> None:
    await seal(world, desk)
    view = await anchor(world)
    assert await anchor(world) == view
    await write(world, view)
    assert (await anchor(world)).state == "settled"
    assert [(one.anchor.sequence, one.anchor.number) for one in await listed(world)] == [(1, 1)]
    await seal(world, desk)
    assert (await anchor(world)).anchor.sequence == 2


async def test_what_ended_without_being_on_chain_is_asked_for_anew(
    world: World, desk: CheckpointDesk
) -> None:
    await seal(world, desk)
    rejected = await anchor(world)
    await world.decide(await operation_of(world, rejected), "carol", Word.REJECT)
    failed = await anchor(world)
    world.chains[STELLAR].fails_on_chain = True
    await write(world, failed)
    world.chains[STELLAR].fails_on_chain = False
    await write(world, await anchor(world))
    states = [(one.anchor.number, one.state) for one in await listed(world)]
    assert states == [(1, "rejected"), (2, "failed"), (3, "settled")]
    assert await world.money() == (FUNDS, 0, FUNDS - 2 * FEE, 2 * FEE)


async def test_without_a_checkpoint_there_is_nothing_to_anchor(world: World) -> None:
    with pytest.raises(NotSealed):
        await anchor(world)
    assert await listed(world) == []


async def test_without_a_vault_nothing_is_asked_for(world: World, desk: CheckpointDesk) -> None:
    async with world.db.unit_of_work(None) as uow:
        bare = await identity.create_tenant(uow, "bare")
    await open_books(world.db, bare)
    await execution.seal_and_sign(world.db, desk, bare)
    with pytest.raises(NoOmnibusVault):
        await anchor(world, tenant=bare)


@pytest.mark.parametrize(
    ("chain", "refusal"), [(EVM, UnsupportedChain), (ChainId("stellar:pubnet"), UnsupportedAsset)]
)
async def test_only_a_configured_stellar_chain_takes_an_anchor(
    world: World, desk: CheckpointDesk, chain: ChainId, refusal: type[Exception]
) -> None:
    await seal(world, desk)
    with pytest.raises(refusal):
        await anchor(world, chain)
    assert await listed(world) == []


async def test_a_policy_for_payments_alone_denies_anchors(
    database: Database, tenant: TenantId, desk: CheckpointDesk
) -> None:
    policy = make_policy()
    payments = tuple(rule for rule in policy.allow if rule.scope.kind != "stellar_anchor")
    world = await World(db=database, tenant=tenant, policy=replace(policy, allow=payments)).open()
    await seal(world, desk)
    with pytest.raises(PolicyDenies):
        await anchor(world)
    assert await listed(world) == []


async def test_the_id_of_an_anchor_takes_no_other_hash(world: World, desk: CheckpointDesk) -> None:
    await seal(world, desk)
    view = await anchor(world)
    with pytest.raises(WithdrawalExistsDifferent):
        async with world.db.unit_of_work(world.tenant) as uow:
            await withdrawals.request_anchor(
                uow,
                world.principal,
                view.anchor.withdrawal_id,
                STELLAR,
                bytes(32),
                settings=world.settings,
                clock=world.clock,
            )


async def test_asking_is_audited_with_the_seal(world: World, desk: CheckpointDesk) -> None:
    await seal(world, desk)
    view = await anchor(world)
    await anchor(world)
    async with world.db.read(world.tenant) as session:
        (entry,) = [one for one in await audit.page(session, 0, 100) if one.action == "checkpoint.anchor"]
    assert entry.object_id == view.anchor.withdrawal_id
    assert entry.detail["seal"] == view.anchor.seal_hash.hex()


# --- reading back -------------------------------------------------------------------------------------------------------


class Witness:
    """Says of every transaction what it was told."""

    def __init__(self, says: StellarTransaction | AbsentTransaction | None) -> None:
        self.says = says

    async def find_transaction(self, tx_hash: str) -> StellarTransaction | AbsentTransaction:
        if self.says is None:
            raise RpcUnreachable(tx_hash=tx_hash)
        return self.says


def seen(view: AnchorView) -> StellarTransaction:
    assert view.height is not None
    return StellarTransaction(
        height=view.height, succeeded=True, source=view.account, memo_hash=view.anchor.seal_hash
    )


@pytest.fixture
async def settled(world: World, desk: CheckpointDesk) -> AnchorView:
    await seal(world, desk)
    await write(world, await anchor(world))
    (view,) = await listed(world)
    return view


async def check(world: World, says: StellarTransaction | AbsentTransaction | None) -> str:
    (found,) = await execution.check_anchors(world.db, {STELLAR: Witness(says)}, world.tenant)
    return found.unchecked


async def test_an_anchor_that_the_chain_carries_holds(world: World, settled: AnchorView) -> None:
    assert await check(world, seen(settled)) == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"memo_hash": bytes(32)},
        {"memo_hash": None},
        {"succeeded": False},
        {"height": 1},
        {"source": "GC5HBIPAKK3Z3OV5XKAIHLXPZLVDI6ERAJA2RWSQEKXFOXENLGOQIZR4"},
    ],
)
async def test_an_anchor_that_the_chain_contradicts_is_named(
    world: World, settled: AnchorView, changes: dict[str, object]
) -> None:
    with pytest.raises(HistoryAltered) as caught:
        await check(world, replace(seen(settled), **changes))
    assert (caught.value.values["table"], caught.value.values["row"]) == ("ledger_anchors", f"1 {STELLAR} 1")


async def test_what_the_node_cannot_tell_is_said_and_never_passed_over(
    world: World, settled: AnchorView
) -> None:
    assert settled.height is not None
    assert "does not answer" in await check(world, None)
    gone = AbsentTransaction(oldest=settled.height + 1, newest=settled.height + 9)
    assert f"from {settled.height + 1} on" in await check(world, gone)
    behind = AbsentTransaction(oldest=1, newest=settled.height - 1)
    assert "has come to" in await check(world, behind)
    with pytest.raises(HistoryAltered):
        await check(world, AbsentTransaction(oldest=1, newest=settled.height))
    (elsewhere,) = await execution.check_anchors(world.db, {}, world.tenant)
    assert "not configured" in elsewhere.unchecked


async def test_an_anchor_of_another_hash_than_its_seals_is_named(
    world: World, settled: AnchorView, admin_dsn: str
) -> None:
    admin = await asyncpg.connect(admin_dsn)
    with pytest.raises(asyncpg.RestrictViolationError):
        await admin.execute("UPDATE ledger_anchors SET seal_hash = sha256('x')")
    await admin.execute("SET session_replication_role = replica")
    await admin.execute("UPDATE ledger_anchors SET seal_hash = sha256('x')")
    await admin.close()
    async with world.db.read(world.tenant) as session:
        with pytest.raises(HistoryAltered) as caught:
            await service.verify(session, message_of, None)
    assert caught.value.values["table"] == "ledger_anchors"
