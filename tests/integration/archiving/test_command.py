"""`custody ledger archive` and what `custody audit verify` says afterwards, in processes of their own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.seals import execution
from tests.commands import custody
from tests.fakes.archived_books import archive as archive_month
from tests.fakes.archived_books import means_for
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.passing_months import later, let_pass, this_month
from tests.fakes.sealed_books import open_books

CONFIGURATION = """
environment = "development"
intent_valid_s = 30
chains = []
database = {{ url = "{url}" }}
redis = {{ url = "redis://127.0.0.1:1/0" }}
signer = {{ socket = "/nonexistent/signer.sock" }}
api = {{ port = 18080 }}
"""


@pytest.fixture
async def key(database: Database, tenant: TenantId, signer: CheckpointDesk) -> str:
    """The key under the seals of the books."""
    await open_books(database, tenant)
    await execution.seal_and_sign(database, signer, tenant)
    (trusted,) = await execution.trusted_keys(database, signer, tenant)
    return trusted.hex()


@pytest.fixture
def configuration(app_dsn: str, admin_dsn: str, tmp_path: Path) -> Path:
    path = tmp_path / "custody.toml"
    path.write_text(CONFIGURATION.format(url=app_dsn))
    (tmp_path / "admin").write_text(admin_dsn + "\n")
    return path


def archive(configuration: Path, key: str, before: str) -> subprocess.CompletedProcess[str]:
    words = (
        "--out",
        str(configuration.parent / "out"),
        "--admin-dsn-file",
        str(configuration.parent / "admin"),
    )
    return custody(configuration, "ledger", "archive", *words, "--before", before, "--key", key)


def test_nothing_that_is_over_is_nothing_to_do(configuration: Path, key: str) -> None:
    done = archive(configuration, key, f"{this_month():%Y-%m}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing that was booked before" in done.stdout


def test_a_month_that_is_not_over_is_refused_by_name(configuration: Path, key: str) -> None:
    done = archive(configuration, key, f"{later(1):%Y-%m}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "month_not_over" in done.stderr


def test_an_archive_needs_to_know_what_and_as_whom(configuration: Path, key: str) -> None:
    done = custody(configuration, "ledger", "archive", "--out", str(configuration.parent / "out"))
    assert done.returncode == 2
    assert "--before and --admin-dsn-file" in done.stderr


async def test_the_check_and_the_audit_name_what_was_archived(
    database: Database,
    admin: Database,
    tenant: TenantId,
    signer: CheckpointDesk,
    admin_dsn: str,
    configuration: Path,
    key: str,
    tmp_path: Path,
) -> None:
    await let_pass(admin_dsn, 1)
    means = await means_for(database, admin, signer, tenant, tmp_path / "out")
    await archive_month(means, 1)
    checked = custody(configuration, "ledger", "archive", "--check", str(means.folder), "--key", key)
    assert (checked.returncode, checked.stderr) == (0, "")
    month = f"{this_month():%Y-%m}"
    assert f"tenant {tenant}: {month}: 10 transfers verify and make the recorded openings" in checked.stdout
    audited = custody(configuration, "audit", "verify", "--key", key)
    assert (audited.returncode, audited.stderr) == (0, "")
    assert "2 of these batches are archived" in audited.stdout
    assert f"10 transfers of {month} were archived to {means.folder}" in audited.stdout
    offline = custody(configuration, "audit", "verify", "--export", str(means.folder), "--key", key)
    assert offline.returncode == 0
    assert "10 transfers in 2 batches" in offline.stdout
    (path,) = means.folder.glob("*.transfers.jsonl")
    path.write_text(path.read_text().replace('"posted":"1000"', '"posted":"1001"', 1))
    tampered = custody(configuration, "ledger", "archive", "--check", str(means.folder), "--key", key)
    assert (tampered.returncode, tampered.stdout) == (1, "")
    assert "history_altered" in tampered.stderr
    stranger = custody(configuration, "ledger", "archive", "--check", str(means.folder), "--key", "ab" * 32)
    assert stranger.returncode == 1
