"""The committed artefacts of contracts are those of the committed sources."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted(
    [*(ROOT / "devnet" / "contracts").glob("*.sol"), *(ROOT / "tests" / "contracts").glob("*.sol")]
)
COMPILER = json.loads((ROOT / "devnet/npm/solc/package.json").read_text())["dependencies"]["solc"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda each: each.stem)
def test_an_artefact_names_its_source_and_its_compiler(source: Path) -> None:
    artefact = json.loads(source.with_suffix(".json").read_text())
    assert artefact["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert artefact["compiler"].startswith(f"{COMPILER}+")
    assert artefact["contract"] == source.stem


def test_artefacts_are_what_their_sources_compile_to() -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    built = subprocess.run(
        [str(ROOT / "scripts" / "compile-contracts"), "--check"],
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    if built.returncode != 0 and "not what their sources" not in built.stderr:
        pytest.skip(f"the compiler cannot be had here: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stderr
