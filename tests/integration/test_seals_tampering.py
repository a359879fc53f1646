"""Somebody with every right on the database edits history with all triggers off: verification names the row."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.ledger.errors import TransferNotFound
from custody.seals import disclosure, execution, export, service
from custody.seals.errors import CheckpointUntrusted, HistoryAltered, NotSealed, UnreadableExport
from custody.signing.checkpoints import message_of
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.sealed_books import deposit, open_books, pay, post

SCRIPT = Path(__file__).parents[2] / "docs" / "verify_transfer.py"
TRANSFERS = "ledger_transfers"
FIRST = "(SELECT min(id) FROM ledger_batches)"


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[CheckpointDesk]:
    directory = tmp_path / "signer"
    directory.mkdir()
    desk = CheckpointDesk(directory)
    yield desk
    desk.close()


@pytest.fixture
async def trusted(database: Database, tenant: TenantId, signer: CheckpointDesk) -> frozenset[bytes]:
    """Books under three signed seals; the keys that signed."""
    await open_books(database, tenant)
    await execution.seal_and_sign(database, signer, tenant)
    await post(database, tenant, pay(0, 1, 5), pay(1, 2, 7), pay(2, 3, 9))
    await execution.seal_and_sign(database, signer, tenant)
    await post(database, tenant, deposit(0, 3))
    await execution.seal_and_sign(database, signer, tenant)
    return await execution.trusted_keys(database, signer, tenant)


@pytest.fixture
async def admin(admin_dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """A superuser for whom no trigger fires."""
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()


async def flaw(database: Database, tenant: TenantId, trusted: frozenset[bytes]) -> dict[str, object]:
    with pytest.raises((HistoryAltered, CheckpointUntrusted)) as caught:
        async with database.read(tenant) as session:
            await service.verify(session, message_of, trusted)
    assert caught.value.values["tenant"] == tenant
    return caught.value.values


TRANSFER_COLUMNS = (
    "chain_id = gen_random_uuid()", "code = 'receipt'", "reference = gen_random_uuid()", "posted = posted + 1",
    "debit_account = credit_account, credit_account = debit_account", "debit_version = debit_version + 100",
    "credit_version = credit_version + 100", "debit_balance = debit_balance + 1", "credit_balance = credit_balance + 1",
    "debit_held = 1", "credit_held = 1", "booked_at = booked_at - interval '1 microsecond'",
    "effective_at = effective_at - interval '1 day'", "id = gen_random_uuid()",
)  # fmt: skip


@pytest.mark.parametrize("change", TRANSFER_COLUMNS)
async def test_an_edited_transfer_is_named(
    database: Database,
    tenant: TenantId,
    trusted: frozenset[bytes],
    admin: asyncpg.Connection[Any],
    change: str,
) -> None:
    for check in ("accounts_differ", "first_entries_have_no_prior"):
        await admin.execute(f"ALTER TABLE ledger_transfers DROP CONSTRAINT ck_ledger_transfers_{check}")
    row = await admin.fetchval(
        f"UPDATE {TRANSFERS} SET {change} WHERE leaf = 1 AND batch_id = {FIRST} RETURNING id"
    )
    found = await flaw(database, tenant, trusted)
    assert (found["table"], found["row"]) == (TRANSFERS, row)


@pytest.mark.parametrize(
    ("change", "table"),
    [
        (f"DELETE FROM {TRANSFERS} WHERE leaf = 1 AND batch_id = {FIRST}", TRANSFERS),
        (f"UPDATE {TRANSFERS} SET leaf = 77 WHERE leaf = 1 AND batch_id = {FIRST}", TRANSFERS),
        (f"UPDATE {TRANSFERS} SET batch_id = -1 WHERE leaf = 1 AND batch_id = {FIRST}", TRANSFERS),
        ("UPDATE ledger_batches SET root = sha256('x') WHERE id = {}", "ledger_batches"),
        ("UPDATE ledger_batches SET transfers = transfers + 1 WHERE id = {}", "ledger_batches"),
        ("UPDATE ledger_batches SET booked_at = booked_at - interval '1 second' WHERE id = {}", "ledger_batches"),
        ("UPDATE ledger_batches SET xid = '99999999' WHERE id = {}", "ledger_batches"),
        ("DELETE FROM ledger_batches WHERE id = {}", "ledger_batches"),
        ("UPDATE ledger_sealed_batches SET leaves = decode(repeat('ab', 40),'hex') WHERE batch_id = {}", "ledger_sealed_batches"),
        ("UPDATE ledger_sealed_batches SET sequence = 2 WHERE batch_id = {}", "ledger_sealed_batches"),
        ("DELETE FROM ledger_sealed_batches WHERE batch_id = {}", "ledger_sealed_batches"),
        ("INSERT INTO ledger_sealed_batches SELECT tenant_id, 999999, 1, leaves FROM ledger_sealed_batches LIMIT 1",
         "ledger_sealed_batches"),
        ("UPDATE ledger_seals SET root = sha256('x') WHERE sequence = 2", "ledger_seals"),
        ("UPDATE ledger_seals SET hash = sha256('x') WHERE sequence = 2", "ledger_seals"),
        ("UPDATE ledger_seals SET previous = sha256('x') WHERE sequence = 2", "ledger_seals"),
        ("UPDATE ledger_seals SET batches = 7 WHERE sequence = 2", "ledger_seals"),
        ("UPDATE ledger_seals SET from_batch = 0 WHERE sequence = 2", "ledger_seals"),
        ("UPDATE ledger_seals SET to_batch = 999999 WHERE sequence = 2", "ledger_seals"),
        ("UPDATE ledger_seals SET from_xid = from_xid - 1 WHERE sequence = 2", "ledger_seals"),
        ("UPDATE ledger_seals SET to_xid = to_xid + 1 WHERE sequence = 2", "ledger_seals"),
        ("UPDATE ledger_seals SET sealed_at = now() WHERE sequence = 2", "ledger_seals"),
        ("DELETE FROM ledger_seals WHERE sequence = 2", "ledger_seals"),
        ("DELETE FROM ledger_seals WHERE sequence = 3", "ledger_sealed_batches"),
        ("UPDATE ledger_checkpoints SET signature = decode(repeat('00', 64), 'hex') WHERE sequence = 2", "ledger_checkpoints"),
        ("DELETE FROM ledger_checkpoints WHERE sequence = 2", "ledger_checkpoints"),
        ("UPDATE ledger_accounts SET credits_posted = credits_posted + 1 WHERE kind = 'wallet'", "ledger_accounts"),
        ("UPDATE ledger_accounts SET version = version + 1 WHERE id = (SELECT credit_account FROM ledger_transfers LIMIT 1)",
         "ledger_accounts"),
        ("UPDATE ledger_accounts SET head = head - 1048576 WHERE id = (SELECT credit_account FROM ledger_transfers LIMIT 1)",
         "ledger_accounts"),
        ("UPDATE ledger_transfers SET debit_prior = debit_prior - 1 WHERE debit_version > 1", "ledger_transfers"),
        ("UPDATE ledger_transfers SET credit_prior = credit_prior + 1 WHERE credit_version > 1", "ledger_transfers"),
        ("UPDATE ledger_commands SET batch_id = batch_id + 1 WHERE batch_id = {}", "ledger_commands"),
    ],
)  # fmt: skip
async def test_any_other_edit_is_named_by_its_table(
    database: Database,
    tenant: TenantId,
    trusted: frozenset[bytes],
    admin: asyncpg.Connection[Any],
    change: str,
    table: str,
) -> None:
    await admin.execute(change.replace("{}", FIRST))
    assert (await flaw(database, tenant, trusted))["table"] == table


async def test_a_forger_who_recomputes_everything_lacks_the_key(
    database: Database,
    tenant: TenantId,
    trusted: frozenset[bytes],
    admin: asyncpg.Connection[Any],
    tmp_path: Path,
) -> None:
    """Transfer, root, seal and hashes made to fit, and signed by a key of the forger's own."""
    await admin.execute("DELETE FROM ledger_seals")
    await admin.execute("DELETE FROM ledger_sealed_batches")
    await admin.execute("DELETE FROM ledger_checkpoints")
    forger = CheckpointDesk(tmp_path)
    await execution.seal_and_sign(database, forger, tenant)
    forger.close()
    found = await flaw(database, tenant, trusted)
    assert found["sequence"] == 1
    assert bytes.fromhex(str(found["public_key"])) not in trusted


async def test_a_batch_smuggled_below_the_last_seal_is_named(
    database: Database, tenant: TenantId, trusted: frozenset[bytes], admin: asyncpg.Connection[Any]
) -> None:
    await post(database, tenant, deposit(0, 3))
    await admin.execute("UPDATE ledger_batches SET xid = '3' WHERE id = (SELECT max(id) FROM ledger_batches)")
    found = await flaw(database, tenant, trusted)
    assert found["row"] == await admin.fetchval("SELECT max(id) FROM ledger_batches")


# --- proofs for third parties -------------------------------------------------------------------------------------------


def check_outside(path: Path, key: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a third party would: no code of ours, no network, another directory."""
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), str(path), key],
        capture_output=True,
        text=True,
        cwd=path.parent,
        check=False,
    )


async def all_transfers(admin: asyncpg.Connection[Any]) -> list[UUID]:
    return [
        UUID(str(row["id"]))
        for row in await admin.fetch("SELECT id FROM ledger_transfers ORDER BY batch_id, leaf")
    ]


async def test_every_transfer_has_a_proof_that_a_stranger_can_check(
    database: Database,
    tenant: TenantId,
    trusted: frozenset[bytes],
    admin: asyncpg.Connection[Any],
    tmp_path: Path,
) -> None:
    (key,) = trusted
    path = tmp_path / "proof.json"
    for transfer_id in (await all_transfers(admin))[::3]:
        for upto in (None, 3):
            async with database.read(tenant) as session:
                proof = await disclosure.prove(session, transfer_id, upto)
            path.write_text(json.dumps(proof))
            ran = check_outside(path, key.hex())
            assert ran.returncode == 0, ran.stderr
            assert f"id        {transfer_id}" in ran.stdout
            assert str(transfer_id) in str(proof["transfer"])


async def test_a_proof_that_was_changed_anywhere_is_refused(
    database: Database,
    tenant: TenantId,
    trusted: frozenset[bytes],
    admin: asyncpg.Connection[Any],
    tmp_path: Path,
) -> None:
    (key,) = trusted
    async with database.read(tenant) as session:
        proof = await disclosure.prove(session, (await all_transfers(admin))[1], 3)
    text = json.dumps(proof)
    path = tmp_path / "proof.json"
    changes = [
        text.replace("|1000|", "|9000|"),
        text.replace('"left"', '"right"', 1),
        text.replace("ledger-seal-v1|1|2|", "ledger-seal-v1|1|4|"),
        json.dumps({**proof, "seals": [*proof["seals"][:1], proof["seals"][2]]}),
        json.dumps({**proof, "transfer_path": proof["transfer_path"][:-1]}),
        json.dumps({**proof, "batch": proof["transfer"]}),
        json.dumps({**proof, "checkpoint": {**proof["checkpoint"], "org": "tenant-2"}}),
        json.dumps({**proof, "checkpoint": {**proof["checkpoint"], "sequence": 2}}),
        json.dumps({**proof, "checkpoint": {**proof["checkpoint"], "signature": "00" * 64}}),
        json.dumps({**proof, "seals": []}),
        "[]",
        "{}",
        "not json",
    ]
    for changed in changes:
        assert changed != text
        path.write_text(changed)
        ran = check_outside(path, key.hex())
        assert (ran.returncode, ran.stdout) == (1, ""), changed
        assert "NOT PROVED" in ran.stderr
    path.write_text(text)
    assert check_outside(path, "ab" * 32).returncode == 1
    assert check_outside(path, "no key").returncode == 1


def test_the_script_needs_nothing_of_ours() -> None:
    lines = SCRIPT.read_text().splitlines()
    assert len(lines) <= 75
    imports = {line.split()[1].partition(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imports - set(sys.stdlib_module_names) == {"cryptography"}


async def test_an_unsealed_or_unknown_transfer_has_no_proof(
    database: Database, tenant: TenantId, trusted: frozenset[bytes], admin: asyncpg.Connection[Any]
) -> None:
    late = deposit(0, 3)
    await post(database, tenant, late)
    async with database.read(tenant) as session:
        with pytest.raises(NotSealed):
            await disclosure.prove(session, late.id)
        with pytest.raises(TransferNotFound):
            await disclosure.prove(session, UUID(int=1))
        with pytest.raises(NotSealed):
            await disclosure.prove(session, (await all_transfers(admin))[0], 4)


# --- exports ------------------------------------------------------------------------------------------------------------


async def export_to(database: Database, tenant: TenantId, folder: Path) -> int:
    async with database.read(tenant) as session:
        return await export.export(session, folder, export.exported_to(folder, tenant))


async def test_an_export_verifies_by_itself_and_goes_on_where_it_ended(
    database: Database, tenant: TenantId, trusted: frozenset[bytes], signer: CheckpointDesk, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    assert await export_to(database, tenant, folder) == 3
    assert await export_to(database, tenant, folder) == 3
    await post(database, tenant, deposit(0, 3))
    await execution.seal_and_sign(database, signer, tenant)
    assert await export_to(database, tenant, folder) == 4
    assert len(list(folder.glob("*.jsonl"))) == 8
    (verified,) = export.verify_export(folder, message_of, trusted).values()
    assert (verified.transfers, verified.batches, verified.seals, verified.checkpoints) == (15, 5, 4, 4)


async def test_an_export_holds_signed_history_only(
    database: Database, tenant: TenantId, trusted: frozenset[bytes], signer: CheckpointDesk, tmp_path: Path
) -> None:
    await post(database, tenant, deposit(0, 3))
    async with database.unit_of_work(tenant) as uow:
        assert await service.seal_next(uow) is not None
    assert await export_to(database, tenant, tmp_path / "out") == 3


async def test_a_run_that_died_is_taken_up_again(
    database: Database, tenant: TenantId, trusted: frozenset[bytes], tmp_path: Path
) -> None:
    """The seals' file comes last: without it the piece is not there, and what is there of it is written again."""
    folder = tmp_path / "out"
    await export_to(database, tenant, folder)
    (folder / ".transfers.part").write_text("half a li")
    next(folder.glob("*.seals.jsonl")).unlink()
    assert export.exported_to(folder, tenant) == 0
    assert await export_to(database, tenant, folder) == 3
    assert export.verify_export(folder, message_of, trusted)[tenant].seals == 3


@pytest.mark.parametrize(
    ("kind", "name", "value", "table"),
    [
        ("transfers", "posted", "1001", "ledger_transfers"),
        ("transfers", "code", "receipt", "ledger_transfers"),
        ("batches", "root", "ab" * 32, "ledger_batches"),
        ("batches", "xid", 7, "ledger_batches"),
        ("batches", "leaves", "ab" * 40, "ledger_sealed_batches"),
        ("seals", "to_xid", 10**9, "ledger_seals"),
        ("checkpoints", "signature", "00" * 64, "ledger_checkpoints"),
    ],
)
async def test_an_edited_line_of_an_export_is_named(
    database: Database,
    tenant: TenantId,
    trusted: frozenset[bytes],
    tmp_path: Path,
    kind: str,
    name: str,
    value: object,
    table: str,
) -> None:
    await export_to(database, tenant, tmp_path / "out")
    path = next((tmp_path / "out").glob(f"*.{kind}.jsonl"))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0][name] = value
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(HistoryAltered) as caught:
        export.verify_export(tmp_path / "out", message_of, trusted)
    assert caught.value.values["table"] == table


@pytest.mark.parametrize("kind", export.KINDS)
async def test_a_missing_line_or_a_broken_one_is_found(
    database: Database, tenant: TenantId, trusted: frozenset[bytes], tmp_path: Path, kind: str
) -> None:
    await export_to(database, tenant, tmp_path / "out")
    path = next((tmp_path / "out").glob(f"*.{kind}.jsonl"))
    lines = path.read_text().splitlines(keepends=True)
    for broken in ([*lines[1:]], [*lines[:-1], '{"posted": 1}\n'], ["[]\n", *lines], ["{", *lines]):
        path.write_text("".join(broken))
        with pytest.raises((HistoryAltered, UnreadableExport)):
            export.verify_export(tmp_path / "out", message_of, trusted)


def test_an_empty_directory_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(UnreadableExport):
        export.verify_export(tmp_path, message_of, None)
