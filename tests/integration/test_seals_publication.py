"""Publishing what is owed follows the seals, and reading one wallet's proof touches neither history nor any row."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import event

from custody import worker
from custody.db.session import Database
from custody.kernel.assetid import AssetId
from custody.kernel.ids import TenantId, derived_uuid
from custody.seals import disclosure, execution, publication
from custody.seals.errors import HistoryAltered, NotInTree, NotSealed
from custody.seals.publication import OwnProof
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.sealed_books import EUR, OWNERS, XLM, deposit, open_books, pay, post

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_balance.py"
ALWAYS = timedelta(0)


@pytest.fixture(autouse=True)
async def books(database: Database, tenant: TenantId) -> None:
    """Wallet 4 has no XLM left; the others' balances in XLM all differ."""
    await open_books(database, tenant)
    await post(database, tenant, pay(0, 1, 250), pay(2, 3, 999), pay(4, 3, 1000), deposit(0, 123_456))


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[CheckpointDesk]:
    desk = CheckpointDesk(tmp_path)
    yield desk
    desk.close()


async def own(database: Database, tenant: TenantId, wallet: int, asset: AssetId = XLM) -> OwnProof:
    async with database.read(tenant) as session:
        return await publication.own_proof(session, OWNERS[wallet], asset)


def check_outside(folder: Path, proof: str, root: str) -> subprocess.CompletedProcess[str]:
    """The script as the wallet's owner runs it."""
    path = folder / "proof.json"
    path.write_text(proof)
    words = [sys.executable, "-I", str(SCRIPT), str(path), root]
    return subprocess.run(words, capture_output=True, text=True, check=False)


async def test_the_worker_publishes_and_each_owner_checks_alone(
    database: Database, tenant: TenantId, signer: CheckpointDesk, tmp_path: Path
) -> None:
    await worker.seal_all(database, signer)
    async with database.read(tenant) as session:
        (xlm,) = [one for one in await publication.list_published(session) if one.asset == XLM]
    assert (xlm.sequence, xlm.total) == (1, 5000 + 123_456)
    for wallet, balance in enumerate((124_206, 1250, 1, 2999)):
        proof = await own(database, tenant, wallet)
        text = json.dumps(proof.document)
        ran = check_outside(tmp_path, text, xlm.root.hex())
        assert ran.returncode == 0, ran.stderr
        assert f"balance   {balance}\nof all    {xlm.total}\n" in ran.stdout
        assert check_outside(tmp_path, text, "ab" * 32).returncode == 1
        assert [str(owner) in text for owner in OWNERS] == [n == wallet for n in range(len(OWNERS))]
        shown = {int(amount) for part in proof.document["parts"] for _, _, amount in part["path"]}
        assert shown.isdisjoint({124_206, 2999} - {balance})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"balance": "1250"', '"balance": "1251"'),
        ('"total": "128456"', '"total": "128457"'),
        ('"amount": "', '"amount": "1'),
        ('"parts": [', '"parts": [], "other": ['),
        ('["left", "', '["right", "'),
        ("custody-liability-v1", "custody-liability-v0"),
    ],
)
async def test_a_proof_with_anything_in_it_changed_fails_outside(
    database: Database, tenant: TenantId, signer: CheckpointDesk, tmp_path: Path, old: str, new: str
) -> None:
    await worker.seal_all(database, signer)
    proof = await own(database, tenant, 1)
    text = json.dumps(proof.document)
    assert old in text
    ran = check_outside(tmp_path, text.replace(old, new, 1), proof.root.hex())
    assert (ran.returncode, "NOT PROVED" in ran.stderr) == (1, True)


async def test_later_publications_follow_the_seals_and_equal_a_derivation_from_all_history(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    for round_ in range(1, 4):
        await execution.seal_and_sign(database, signer, tenant)
        assert await execution.publish_due(database, tenant, ALWAYS) == round_
        async with database.unit_of_work(tenant) as uow:
            derived = {one.asset: one.tree for one in await disclosure.publish_liabilities(uow, "auditor")}
        for wallet in range(4):
            proof = await own(database, tenant, wallet)
            assert (proof.sequence, proof.root) == (round_, derived[XLM].root.hash)
            assert proof.document["balance"] == str(sum(p.amount for p in derived[XLM].prove(OWNERS[wallet])))
        await post(database, tenant, deposit(0, 7), pay(1, 2, 10), pay(3, 1, 5, EUR))


async def test_a_wallet_that_is_paid_out_is_owed_nothing_any_more(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    await worker.seal_all(database, signer)
    assert (await own(database, tenant, 2)).balance == 1
    await post(database, tenant, pay(2, 0, 1))
    await execution.seal_and_sign(database, signer, tenant)
    await execution.publish_due(database, tenant, ALWAYS)
    with pytest.raises(NotInTree):
        await own(database, tenant, 2)
    async with database.read(tenant) as session:
        assert [one.asset for one in await publication.list_own_proofs(session, OWNERS[2])] == [EUR]


async def test_a_checkpoint_soon_after_the_published_one_waits(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    await worker.seal_all(database, signer)
    await post(database, tenant, deposit(0, 7))
    await worker.seal_all(database, signer)
    assert (await own(database, tenant, 0)).sequence == 1
    assert await execution.publish_due(database, tenant, ALWAYS) == 2
    assert await execution.publish_due(database, tenant, ALWAYS) is None


async def test_before_the_first_publication_and_for_strangers_there_is_no_proof(
    database: Database, tenant: TenantId, other_tenant: TenantId, signer: CheckpointDesk
) -> None:
    assert await execution.publish_due(database, tenant, ALWAYS) is None
    with pytest.raises(NotSealed):
        await own(database, tenant, 0)
    await worker.seal_all(database, signer)
    for wallet, asset in ((4, XLM), (0, AssetId(XLM.chain, "USDC"))):
        with pytest.raises(NotInTree):
            await own(database, tenant, wallet, asset)
    with pytest.raises(NotSealed):
        await own(database, other_tenant, 0)
    async with database.read(tenant) as session:
        with pytest.raises(NotInTree):
            await publication.own_proof(session, derived_uuid("nobody"), XLM)


async def test_reading_a_proof_neither_reads_history_nor_writes(
    database: Database, tenant: TenantId, signer: CheckpointDesk
) -> None:
    await worker.seal_all(database, signer)
    said: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    await own(database, tenant, 0)
    event.remove(database.engine.sync_engine, "before_cursor_execute", note)
    read = [statement for statement in said if "ledger_" in statement]
    assert len(read) == 5
    assert [one for one in read if not one.startswith("SELECT") or "ledger_transfers" in one] == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger_liability_balances SET balance = balance + 1",
        "UPDATE ledger_liability_pages SET leaves = overlay(leaves placing decode(repeat('ab', 32), 'hex') from 1)",
        "UPDATE ledger_liability_pages SET sequence = 7",
    ],
)
async def test_what_follows_from_history_is_not_shown_once_it_differs(
    database: Database, tenant: TenantId, signer: CheckpointDesk, admin_dsn: str, change: str
) -> None:
    await worker.seal_all(database, signer)
    admin = await asyncpg.connect(admin_dsn)
    await admin.execute(change)
    await admin.close()
    failed = 0
    for wallet in range(4):
        try:
            await own(database, tenant, wallet)
        except HistoryAltered:
            failed += 1
    assert failed >= 1


async def test_an_edited_balance_is_found_by_the_derivation_from_all_history(
    database: Database, tenant: TenantId, signer: CheckpointDesk, admin_dsn: str
) -> None:
    """What is kept between publications is nobody's truth: whatever was published from it is held against the transfers."""
    await worker.seal_all(database, signer)
    admin = await asyncpg.connect(admin_dsn)
    await admin.execute("UPDATE ledger_liability_balances SET balance = balance - 1 WHERE balance > 1")
    await admin.close()
    await post(database, tenant, deposit(0, 7))
    await execution.seal_and_sign(database, signer, tenant)
    await execution.publish_due(database, tenant, ALWAYS)
    async with database.unit_of_work(tenant) as uow:
        with pytest.raises(HistoryAltered):
            await disclosure.publish_liabilities(uow, "auditor")
