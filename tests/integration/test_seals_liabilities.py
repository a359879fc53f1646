"""What is owed, at a checkpoint: the ledger's own totals, the same tree again, and each wallet's proof about itself only."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from custody.audit import service as audit
from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.ledger import history
from custody.ledger.model import AccountKind
from custody.seals import disclosure, execution
from custody.seals.disclosure import AssetLiabilities
from custody.seals.errors import HistoryAltered, NotInTree, NotSealed
from custody.seals.liabilities import verify
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.sealed_books import EUR, OWNERS, XLM, deposit, open_books, pay, post


@pytest.fixture(autouse=True)
async def books(database: Database, tenant: TenantId) -> None:
    """Wallet 4 has no XLM left."""
    await open_books(database, tenant)
    await post(database, tenant, pay(0, 1, 250), pay(2, 3, 999), pay(4, 3, 1000))


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[CheckpointDesk]:
    desk = CheckpointDesk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture
async def admin(admin_dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()


async def publish(database: Database, tenant: TenantId) -> list[AssetLiabilities]:
    async with database.unit_of_work(tenant) as uow:
        return await disclosure.publish_liabilities(uow, "auditor")


async def test_sums_are_the_ledgers_totals_and_every_wallet_proves_its_balance(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    await execution.seal_and_sign(database, signer, tenant)
    owed = {one.asset: one.tree for one in await publish(database, tenant)}
    async with database.read(tenant) as session:
        balances = await history.balances_of(session, AccountKind.WALLET, OWNERS)
    assert set(owed) == {XLM, EUR}
    for asset, tree in owed.items():
        mine = {one.key.owner: one.posted for one in balances if one.key.asset == asset}
        assert tree.root.total == sum(mine.values()) == 5000
        for owner, balance in mine.items():
            assert owner is not None
            if balance:
                assert verify(tree.root, owner, balance, tree.prove(owner))
    assert owed[XLM].wallets == 4


async def test_what_is_booked_after_the_checkpoint_does_not_count(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    await execution.seal_and_sign(database, signer, tenant)
    before = await publish(database, tenant)
    await post(database, tenant, deposit(0, 77))
    after = await publish(database, tenant)
    assert [one.tree.root for one in after] == [one.tree.root for one in before]
    await execution.seal_and_sign(database, signer, tenant)
    totals = {one.asset: (one.sequence, one.tree.root.total) for one in await publish(database, tenant)}
    assert totals == {XLM: (2, 5077), EUR: (2, 5000)}


async def test_publishing_is_audited_once(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    await execution.seal_and_sign(database, signer, tenant)
    (xlm,) = [one for one in await publish(database, tenant) if one.asset == XLM]
    await publish(database, tenant)
    async with database.read(tenant) as session:
        (entry,) = [one for one in await audit.page(session, 0, 50) if one.action == "liabilities.publish"]
    assert entry.detail["assets"][XLM.text] == {"total": "5000", "root": xlm.tree.root.hash.hex()}


async def test_a_wallets_proof_stands_by_itself_and_names_nobody_else(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    await execution.seal_and_sign(database, signer, tenant)
    owed = await publish(database, tenant)
    proofs = disclosure.prove_liability(owed, OWNERS[0])
    text = json.dumps(proofs)
    assert [str(owner) in text for owner in OWNERS] == [True, False, False, False, False]
    for proof in json.loads(text):
        assert recompute(proof) == (proof["root"], proof["total"])
    assert {proof["asset"]: proof["balance"] for proof in proofs} == {XLM.text: "750", EUR.text: "1000"}
    with pytest.raises(NotInTree):
        disclosure.prove_liability(owed, UUID(int=7))


def recompute(proof: dict[str, Any]) -> tuple[str, str]:
    """The check as a customer would write it from the page that describes it."""
    reached = set()
    for part in proof["parts"]:
        total = int(part["amount"])
        owner = sha256(bytes.fromhex(part["salt"]) + UUID(proof["wallet"]).bytes).digest()
        node = sha256(b"\x00" + owner + total.to_bytes(32, "big")).digest()
        for side, other, amount in part["path"]:
            pair = [(node, total), (bytes.fromhex(other), int(amount))]
            left, right = pair if side == "right" else reversed(pair)
            node = sha256(
                b"\x01" + left[0] + left[1].to_bytes(32, "big") + right[0] + right[1].to_bytes(32, "big")
            ).digest()
            total += int(amount)
        reached.add((node.hex(), str(total)))
    assert sum(int(part["amount"]) for part in proof["parts"]) == int(proof["balance"])
    (one,) = reached
    return one


async def test_without_a_checkpoint_there_is_nothing_to_publish(database: Database, tenant: TenantId) -> None:
    with pytest.raises(NotSealed):
        await publish(database, tenant)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger_liabilities SET total = total - 1",
        "UPDATE ledger_liabilities SET root = sha256('x')",
        "UPDATE ledger_liabilities SET secret = sha256('x')",
        "UPDATE ledger_liabilities SET asset = 'fiat/USD' WHERE asset = 'fiat/EUR'",
        "UPDATE ledger_transfers SET posted = posted + 1 WHERE leaf = 1",
    ],
)
async def test_an_edit_of_what_was_published_is_named(
    database: Database, tenant: TenantId, signer: CheckpointDesk, admin: asyncpg.Connection[Any], change: str
) -> None:
    await execution.seal_and_sign(database, signer, tenant)
    await publish(database, tenant)
    await admin.execute(change)
    with pytest.raises(HistoryAltered) as caught:
        await publish(database, tenant)
    assert caught.value.values["table"] == "ledger_liabilities"
