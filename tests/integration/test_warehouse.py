"""Export for a warehouse: every entry once, whatever commits late or dies in between, and files that say all by themselves."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.kernel.money import MAX_ATOMIC, Amount
from custody.ledger import service as ledger
from custody.ledger.errors import InsufficientFunds
from custody.ledger.model import Hold, PostHold, Reverse, TransferCode, VoidHold
from custody.warehouse import check, execution, files, manifest
from custody.warehouse.errors import (
    EntriesMissing,
    WarehouseBusy,
    WarehouseFormatDiffers,
    WarehouseSourceDiffers,
)
from custody.warehouse.model import Checked, FileFormat
from custody.warehouse.rows import COLUMNS, Entry
from tests.fakes.sealed_books import EUR, OWNERS, VAULTS, WALLETS, XLM, deposit, open_books, pay, post

BOTH = pytest.mark.parametrize("form", list(FileFormat))


@pytest.fixture(autouse=True)
async def books(database: Database, tenant: TenantId) -> None:
    """Two batches of five transfers."""
    await open_books(database, tenant)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out"


async def export(
    database: Database,
    tenant: TenantId,
    folder: Path,
    form: FileFormat | None = None,
    *,
    batches_max: int | None = None,
    rows_per_file: int = execution.ROWS_PER_FILE,
    transfers_per_page: int = execution.TRANSFERS_PER_PAGE,
    watch: execution.Watch = lambda _: None,
) -> int:
    with manifest.claimed(folder):
        exporter = await execution.open_exporter(
            database,
            folder,
            form,
            watch=watch,
            rows_per_file=rows_per_file,
            transfers_per_page=transfers_per_page,
        )
        return await exporter.export(database, tenant, batches_max)


def checked(folder: Path, tenant: TenantId) -> Checked:
    return check.check(folder, lambda *_: None)[tenant]


def entries(folder: Path, tenant: TenantId) -> list[Entry]:
    held = manifest.load_manifest(folder)
    assert held is not None
    return [
        entry
        for file in held.tenants[tenant].files
        for entry in files.read_entries(folder / file.name, held.format)
    ]


def digests(folder: Path) -> dict[str, str]:
    """Every file but the lock, by its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != manifest.LOCK
    }


def _hold(atomic: int) -> Hold:
    return Hold(
        id=new_uuid(),
        debit=WALLETS[XLM][0],
        credit=VAULTS[XLM],
        amount=Amount(XLM, atomic),
        code=TransferCode.WITHDRAWAL,
        reference=new_uuid(),
    )


async def every_kind(database: Database, tenant: TenantId) -> None:
    """Transfers, holds posted in parts, voided, and a reversal, each a batch."""
    first, second, moved = _hold(50), _hold(20), pay(1, 2, 7)
    for command in (
        first,
        second,
        PostHold(id=new_uuid(), hold_id=first.id, amount=Amount(XLM, 30)),
        PostHold(id=new_uuid(), hold_id=first.id, amount=Amount(XLM, 5), final=True),
        VoidHold(id=new_uuid(), hold_id=second.id),
        moved,
        Reverse(id=new_uuid(), transfer_id=moved.id),
    ):
        async with database.unit_of_work(tenant) as uow:
            await ledger.post(uow, command)


@BOTH
async def test_every_entry_is_written_as_the_ledger_has_it(
    database: Database, tenant: TenantId, folder: Path, form: FileFormat, admin_dsn: str
) -> None:
    await every_kind(database, tenant)
    assert await export(database, tenant, folder, form) == 34
    written = entries(folder, tenant)
    connection = await asyncpg.connect(admin_dsn)
    rows = await connection.fetch(
        """
        SELECT e.*, a.kind AS account_kind, a.owner, a.normal_side, s.id AS asset, s.decimals, t.batch_id, t.leaf, t.chain_id,
               t.target_id
          FROM ledger_entries e JOIN ledger_transfers t ON t.tenant_id = e.tenant_id AND t.id = e.transfer_id
          JOIN ledger_accounts a ON a.tenant_id = e.tenant_id AND a.id = e.account_id JOIN assets s ON s.number = a.asset_id
         ORDER BY t.batch_id, t.leaf, e.side DESC
        """
    )
    await connection.close()
    assert len(rows) == len(written)
    renamed = {"account_owner": "owner"}
    for row, entry in zip(rows, written, strict=True):
        sign = 1 if row["side"] == "debit" else -1
        expected: dict[str, Any] = {
            name: row[renamed.get(name, name)] for name in COLUMNS if name != "signed_pending"
        }
        expected["signed_pending"] = sign * row["pending"]
        for name, kind in COLUMNS.items():
            value = expected[name]
            if kind == "amount":
                assert entry[name] == int(value), name
            elif kind == "text" and value is not None:
                assert entry[name] == str(value), name
            else:
                assert entry[name] == value, name


@BOTH
async def test_a_check_reads_the_books_out_of_the_files(
    database: Database, tenant: TenantId, folder: Path, form: FileFormat
) -> None:
    await every_kind(database, tenant)
    await export(database, tenant, folder, form, rows_per_file=10)
    found = checked(folder, tenant)
    assert (found.entries, found.transfers) == (34, 17)
    assert found.accounts == 2 * (1 + len(OWNERS))
    assert found.files == 4
    last = {entry["account_id"]: entry for entry in entries(folder, tenant)}
    async with database.read(tenant) as session:
        for asset in (XLM, EUR):
            for key in (VAULTS[asset], *WALLETS[asset]):
                balance = await ledger.balance(session, key)
                entry = last[str(key.id_for(tenant))]
                assert (entry["balance"], entry["held"]) == (balance.posted, balance.pending_out)
                assert entry["version"] == balance.version


@BOTH
async def test_a_run_goes_on_after_the_last_file_and_leaves_finished_files_alone(
    database: Database, tenant: TenantId, folder: Path, form: FileFormat
) -> None:
    assert await export(database, tenant, folder, form) == 20
    before = digests(folder)
    assert await export(database, tenant, folder) == 0
    assert digests(folder) == before
    await post(database, tenant, pay(0, 1, 5))
    assert await export(database, tenant, folder) == 2
    after = digests(folder)
    del before[manifest.MANIFEST], after[manifest.MANIFEST]
    assert before.items() < after.items()
    assert checked(folder, tenant).entries == 22


async def test_files_end_at_the_bound_with_a_whole_batch(
    database: Database, tenant: TenantId, folder: Path
) -> None:
    for _ in range(5):
        await post(database, tenant, pay(0, 1, 1), pay(1, 2, 1))
    await export(database, tenant, folder, rows_per_file=7)
    held = manifest.load_manifest(folder)
    assert held is not None
    # Two batches of 10 entries, five of 4. A page holds many batches, a file no more than its bound asks for.
    assert [file.rows for file in held.tenants[tenant].files] == [10, 10, 8, 8, 4]


async def test_a_limit_stops_within_a_wave_and_the_next_run_completes_it(
    database: Database, tenant: TenantId, folder: Path
) -> None:
    for n in range(3):
        await post(database, tenant, pay(0, 1, 1 + n))
    assert await export(database, tenant, folder, batches_max=1) == 10
    await post(database, tenant, pay(1, 2, 9))
    assert await export(database, tenant, folder, batches_max=2) == 12
    assert await export(database, tenant, folder) == 6
    assert checked(folder, tenant).entries == 28


async def test_a_batch_that_commits_late_is_never_skipped(
    database: Database, tenant: TenantId, folder: Path, admin_dsn: str
) -> None:
    """The classic bug of asking for numbers above the last: a lower number that commits later would be lost for ever."""
    async with database.unit_of_work(tenant) as late:
        await ledger.post(late, pay(0, 1, 5))
        await post(database, tenant, pay(2, 3, 5))
        # The later batch has the higher number and is committed; it does not wait for the one that is not.
        assert await export(database, tenant, folder) == 22
    assert await export(database, tenant, folder) == 2
    numbers = [entry["batch_id"] for entry in entries(folder, tenant)[::2]]
    assert numbers[-2] > numbers[-1]
    connection = await asyncpg.connect(admin_dsn)
    there = await connection.fetch("SELECT batch_id FROM ledger_transfers ORDER BY batch_id")
    await connection.close()
    assert sorted(numbers) == [row["batch_id"] for row in there]
    assert checked(folder, tenant).transfers == 12


async def test_a_transaction_that_began_early_and_posts_late_is_never_skipped(
    database: Database, tenant: TenantId, folder: Path
) -> None:
    """Its number among transactions is the lowest, its batch's the highest."""
    async with database.unit_of_work(tenant) as late:
        await ledger.post(late, pay(0, 1, 5))
        for _ in range(3):
            await post(database, tenant, pay(2, 3, 5))
            await export(database, tenant, folder)
        await ledger.post(late, pay(1, 0, 5))
    assert await export(database, tenant, folder) == 4
    assert checked(folder, tenant).transfers == 15


async def test_a_transaction_that_rolls_back_leaves_nothing(
    database: Database, tenant: TenantId, folder: Path
) -> None:
    async def post_export_and_fail() -> None:
        async with database.unit_of_work(tenant) as uow:
            await ledger.post(uow, pay(0, 1, 5))
            assert await export(database, tenant, folder) == 20
            await ledger.post(uow, pay(0, 1, 5000))

    with pytest.raises(InsufficientFunds):
        await post_export_and_fail()
    assert await export(database, tenant, folder) == 0
    await post(database, tenant, pay(0, 1, 6))
    assert await export(database, tenant, folder) == 2


@BOTH
async def test_a_crash_within_a_file_leaves_nothing_that_counts(
    database: Database, tenant: TenantId, folder: Path, form: FileFormat
) -> None:
    for n in range(4):
        await post(database, tenant, pay(0, 1, 1 + n))
    seen: list[int] = []

    def die(progress: Any) -> None:
        seen.append(progress.entries)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await export(database, tenant, folder, form, rows_per_file=20, transfers_per_page=1, watch=die)
    assert seen == [10, 20, 22]
    assert f"tenant-{tenant}/entries-000001.{form.value}" in digests(folder)
    assert f"tenant-{tenant}/entries-000002.{form.value}" not in digests(folder)
    assert checked(folder, tenant).entries == 20
    assert await export(database, tenant, folder) == 8
    assert checked(folder, tenant).entries == 28


STEPS = ("part", "next manifest", "half of the next manifest", "renamed")
"""What lies in the directory when a process dies at each step of letting a file count."""


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_between_two_names_neither_loses_nor_doubles_a_file(
    database: Database, tenant: TenantId, folder: Path, tmp_path: Path, step: str
) -> None:
    await export(database, tenant, folder)
    shutil.copytree(folder, tmp_path / "before")
    await post(database, tenant, pay(0, 1, 5))
    await export(database, tenant, folder)
    newest = f"tenant-{tenant}/entries-000002.jsonl"
    crashed = tmp_path / "before"
    if step == "renamed":
        shutil.copy(folder / newest, crashed / newest)
    else:
        shutil.copy(folder / newest, crashed / manifest.PART)
    if step != "part":
        shutil.copy(folder / manifest.MANIFEST, crashed / manifest.NEXT)
    if step.startswith("half"):
        whole = (crashed / manifest.NEXT).read_bytes()
        (crashed / manifest.NEXT).write_bytes(whole[: len(whole) // 2])
    # Books go on; a file that had its name keeps its bytes, one that had none is written anew with all there is.
    await post(database, tenant, pay(1, 2, 6))
    assert await export(database, tenant, crashed) == (2 if step == "renamed" else 4)
    assert checked(crashed, tenant).entries == 24
    if step == "renamed":
        assert (crashed / newest).read_bytes() == (folder / newest).read_bytes()


@BOTH
async def test_the_largest_amounts_keep_every_digit(
    database: Database, tenant: TenantId, folder: Path, form: FileFormat
) -> None:
    vast = MAX_ATOMIC - 5000
    await post(database, tenant, deposit(0, vast), deposit(1, 10**38 - 1 - 1000, EUR))
    await export(database, tenant, folder, form)
    found = entries(folder, tenant)
    assert {entry["signed"] for entry in found} >= {vast, -vast}
    assert checked(folder, tenant).entries == 24


async def test_a_parquet_file_has_a_decimal_where_it_fits(
    database: Database, tenant: TenantId, folder: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    await post(database, tenant, deposit(0, 10**38), deposit(1, 10**38 - 1))
    await export(database, tenant, folder, FileFormat.PARQUET)
    table = parquet.read_table(folder / f"tenant-{tenant}" / "entries-000001.parquet")
    assert str(table.schema.field("signed_decimal").type) == "decimal128(38, 0)"
    assert str(table.schema.field("booked_at").type) == "timestamp[us, tz=UTC]"
    pairs = dict(zip(table["signed"].to_pylist(), table["signed_decimal"].to_pylist(), strict=True))
    assert pairs[str(10**38)] is None
    assert pairs[str(10**38 - 1)] == 10**38 - 1
    assert pairs["-1000"] == -1000


async def test_tenants_are_exported_apart(
    database: Database, tenant: TenantId, other_tenant: TenantId, folder: Path
) -> None:
    await open_books(database, other_tenant)
    await post(database, other_tenant, pay(0, 1, 5))
    assert await export(database, other_tenant, folder) == 22
    assert await export(database, tenant, folder) == 20
    assert {entry["tenant_id"] for entry in entries(folder, tenant)} == {tenant}
    assert (checked(folder, tenant).entries, checked(folder, other_tenant).entries) == (20, 22)


async def test_one_directory_takes_one_writer(database: Database, tenant: TenantId, folder: Path) -> None:
    with manifest.claimed(folder), pytest.raises(WarehouseBusy):
        await export(database, tenant, folder)


async def test_a_directory_keeps_its_format(database: Database, tenant: TenantId, folder: Path) -> None:
    await export(database, tenant, folder, FileFormat.JSONL)
    with pytest.raises(WarehouseFormatDiffers):
        await export(database, tenant, folder, FileFormat.PARQUET)


@pytest.mark.parametrize("change", ["another database", "another root", "a later snapshot"])
async def test_another_past_is_refused(
    database: Database, tenant: TenantId, folder: Path, change: str
) -> None:
    """As after a restore, of another database or of an older backup."""
    await export(database, tenant, folder)
    path = folder / manifest.MANIFEST
    shown = json.loads(path.read_text())
    one = shown["tenants"][str(tenant)]
    if change == "another database":
        shown["source"] = "1/elsewhere"
    elif change == "another root":
        one["files"][-1]["last_root"] = "00" * 32
    else:
        one["position"]["seen"] = "999999999:999999999:"
    path.write_text(json.dumps(shown))
    with pytest.raises(WarehouseSourceDiffers):
        await export(database, tenant, folder)


async def test_a_batch_without_all_its_transfers_stops_the_export(
    database: Database, tenant: TenantId, folder: Path, admin_dsn: str
) -> None:
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("DELETE FROM ledger_transfers WHERE leaf = 3")
    await connection.close()
    with pytest.raises(EntriesMissing):
        await export(database, tenant, folder)
    assert manifest.load_manifest(folder) is None
