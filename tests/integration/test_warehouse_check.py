"""What the check of an export finds, from the files alone, also when the manifest was written anew for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.warehouse import execution, files, manifest
from custody.warehouse.check import check
from custody.warehouse.errors import WarehouseFlawed, WarehouseUnreadable
from tests.fakes.sealed_books import open_books, pay, post


@pytest.fixture
async def folder(database: Database, tenant: TenantId, tmp_path: Path) -> Path:
    """An export of three batches in two files."""
    await open_books(database, tenant)
    await post(database, tenant, pay(0, 1, 5))
    folder = tmp_path / "out"
    with manifest.claimed(folder):
        exporter = await execution.open_exporter(
            database, folder, None, watch=lambda _: None, rows_per_file=20
        )
        await exporter.export(database, tenant, None)
    return folder


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "amount": ({"signed": "1001"}, "sum to zero"),
    "held": ({"signed_pending": "1"}, "sum to zero"),
    "balance": ({"balance": "7"}, "do not follow"),
    "reserve": ({"held": "7"}, "do not follow"),
    "version": ({"version": 4}, "is missing"),
    "leaf": ({"leaf": 9}, "differ in leaf"),
    "side": ({"side": "credit"}, "a debit and a credit"),
    "account": ({"counter_account": "x"}, "each other's account"),
    "code": ({"code": "receipt"}, "differ in code"),
    "asset": ({"asset": "fiat/USD"}, "differ in asset"),
    "kind of account": ({"account_kind": "bank"}, "described otherwise"),
    "time": ({"booked_at": "yesterday"}, "cannot be read"),
    "number": ({"signed": "1_000"}, "cannot be read"),
    "extra column": ({"note": "x"}, "cannot be read"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_an_edited_entry_is_found(tenant: TenantId, folder: Path, name: str) -> None:
    change, message = CHANGES[name]
    path = folder / f"tenant-{tenant}" / "entries-000001.jsonl"
    lines = path.read_text().splitlines()
    # The third transfer's debit: an account that has been seen before.
    lines[4] = json.dumps({**json.loads(lines[4]), **change})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(WarehouseFlawed, match="digest"):
        check(folder, ignore)
    list_again(folder, tenant, path)
    with pytest.raises(WarehouseFlawed, match=message):
        check(folder, ignore)


MISSING: dict[str, tuple[slice, str]] = {
    "a transfer": (slice(4, 6), "leaf 2 of batch"),
    "an entry": (slice(19, 20), "one entry only"),
    "a batch": (slice(0, 10), "version 1 of account"),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_piece_is_found(tenant: TenantId, folder: Path, name: str) -> None:
    cut, message = MISSING[name]
    path = folder / f"tenant-{tenant}" / "entries-000001.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    del lines[cut]
    path.write_text("".join(lines))
    list_again(folder, tenant, path)
    with pytest.raises(WarehouseFlawed, match=message):
        check(folder, ignore)


def test_a_missing_file_is_found(tenant: TenantId, folder: Path) -> None:
    (folder / f"tenant-{tenant}" / "entries-000001.jsonl").unlink()
    with pytest.raises(WarehouseFlawed, match="missing"):
        check(folder, ignore)


def test_wrong_counts_in_the_manifest_are_found(tenant: TenantId, folder: Path) -> None:
    shown = json.loads((folder / manifest.MANIFEST).read_text())
    shown["tenants"][str(tenant)]["files"][0]["batches"] = 3
    (folder / manifest.MANIFEST).write_text(json.dumps(shown))
    with pytest.raises(WarehouseFlawed, match="not as listed"):
        check(folder, ignore)


def test_an_empty_directory_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(WarehouseUnreadable):
        check(tmp_path, ignore)


def ignore(_tenant: TenantId, _entries: int) -> None:
    """Nobody watches."""


def list_again(folder: Path, tenant: TenantId, path: Path) -> None:
    """Let the manifest say of the file what it is now, as somebody would who wants to hide a change."""
    shown = json.loads((folder / manifest.MANIFEST).read_text())
    size, sha256 = files.digest(path)
    batches = [json.loads(line)["batch_id"] for line in path.read_text().splitlines()]
    shown["tenants"][str(tenant)]["files"][0] |= {
        "size": size,
        "sha256": sha256,
        "rows": len(batches),
        "batches": len(set(batches)),
        "first_batch": batches[0],
        "last_batch": batches[-1],
    }
    (folder / manifest.MANIFEST).write_text(json.dumps(shown))
