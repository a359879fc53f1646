"""`custody ledger export` as an operator runs it, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId
from tests.commands import custody
from tests.fakes.sealed_books import open_books, pay, post

ROOT = Path(__file__).parent.parent.parent
CONFIGURATION = """
environment = "development"
intent_valid_s = 30
chains = []
database = {{ url = "{url}" }}
redis = {{ url = "redis://127.0.0.1:1/0" }}
signer = {{ socket = "/nonexistent/signer.sock" }}
api = {{ port = 18080 }}
"""
WITHOUT_PYARROW = (
    "import sys; sys.modules['pyarrow'] = None; from cli.main import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture
async def configuration(database: Database, tenant: TenantId, app_dsn: str, tmp_path: Path) -> Path:
    """The configuration of a database with books."""
    await open_books(database, tenant)
    path = tmp_path / "custody.toml"
    path.write_text(CONFIGURATION.format(url=app_dsn))
    return path


def export(configuration: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return custody(configuration, "ledger", "export", *words)


def export_without_pyarrow(configuration: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_PYARROW, "ledger", "export", *words],
        cwd=ROOT,
        env={"PATH": os.defpath, "CUSTODY_CONFIG": str(configuration)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
async def test_an_operator_exports_goes_on_and_checks(
    configuration: Path, database: Database, tenant: TenantId, tmp_path: Path, form: str
) -> None:
    out = str(tmp_path / "out")
    first = export(configuration, "--out", out, "--format", form, "--limit-batches", "1")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == f"tenant {tenant}: 10 new entries; 10 entries in 1 files\n"
    await post(database, tenant, pay(0, 1, 5))
    again = export(configuration, "--out", out)
    assert again.stdout == f"tenant {tenant}: 12 new entries; 22 entries in 3 files\n"
    checked = export(configuration, "--check", out)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert checked.stdout == (
        f"tenant {tenant}: 22 entries in 3 files are as written; 11 transfers sum to zero, 12 accounts have no gap\n"
    )


def test_a_check_that_finds_a_fault_ends_with_1_and_names_the_file(
    configuration: Path, tenant: TenantId, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export(configuration, "--out", str(out))
    path = out / f"tenant-{tenant}" / "entries-000001.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    checked = export(configuration, "--check", str(out))
    assert (checked.returncode, checked.stdout) == (1, "")
    assert f"tenant-{tenant}/entries-000001.jsonl" in checked.stderr


def test_without_pyarrow_parquet_says_what_to_install_and_json_lines_work(
    configuration: Path, tenant: TenantId, tmp_path: Path
) -> None:
    refused = export_without_pyarrow(configuration, "--out", str(tmp_path / "p"), "--format", "parquet")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "custody ledger export: parquet_missing: Parquet needs pyarrow, which is not installed: "
        "pip install 'custody-platform[warehouse]'.\n"
    )
    assert export_without_pyarrow(configuration, "--out", str(tmp_path / "j")).returncode == 0


def test_wrong_words_end_with_2_and_one_sentence(
    configuration: Path, tenant: TenantId, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, expected in (
        (("--out", str(empty), "--tenant", str(tenant + 1)), "unknown_tenant"),
        (("--check", str(empty)), "warehouse_unreadable"),
    ):
        done = export(configuration, *words)
        assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
        assert expected in done.stderr
    assert export(configuration, "--out", str(empty), "--limit-batches", "0").returncode == 2


def test_every_line_of_a_file_is_one_entry_with_text_for_amounts(
    configuration: Path, tenant: TenantId, tmp_path: Path
) -> None:
    export(configuration, "--out", str(tmp_path / "out"))
    lines = (tmp_path / "out" / f"tenant-{tenant}" / "entries-000001.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert (first["side"], first["signed"], first["asset"], first["decimals"]) == (
        "debit",
        "1000",
        "stellar:devnet/native",
        7,
    )
    assert first["booked_at"].endswith("+00:00")
