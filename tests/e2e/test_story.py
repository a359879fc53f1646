"""The demo is the main job: it must end well, also when every product process may die at any moment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


def test_the_demo_ends_with_books_that_equal_chain_and_bank(tmp_path: Path) -> None:
    done = run("cli.main", "demo", "--state-dir", str(tmp_path / "state"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no breaks" in done.stdout


def test_killing_processes_never_changes_the_final_balances() -> None:
    done = run("tests.e2e.chaos", *(["--seed", seed] if (seed := os.environ.get("CHAOS_SEED")) else []))
    assert done.returncode == 0, done.stdout + done.stderr


def run(module: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
