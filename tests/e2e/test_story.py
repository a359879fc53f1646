"""The demo is the main job and must end well; and so must chaos, in which anything may die, forget or lie at any moment."""

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


def test_chaos_pays_each_withdrawal_once_or_releases_it() -> None:
    seed = ["--seed", given] if (given := os.environ.get("SOAK_SEED")) else []
    done = run("tests.soak.main", "--seconds", "25", *seed)
    assert done.returncode == 0, done.stdout + done.stderr


def run(module: str, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *argv], cwd=ROOT, capture_output=True, text=True, check=False
    )
