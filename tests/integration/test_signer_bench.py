"""The signer's bench runs to its end and measures what it says; how fast is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.signer_harness import MODULE, ROOT

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]

SHORT = """
import json, sys
from pathlib import Path
from bench.bench_signer import Shape, run
found = run(Path(sys.argv[1]), Shape(rounds=1, requests=20, single=4, keys=30, facts=4000))
print(json.dumps(found))
"""


def test_a_short_bench_measures_everything(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORT, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name in ("secp256k1_quorum_vs_raw", "ed25519_quorum_vs_raw", "journal_growth"):
        assert set(found[name]) == {"value", "unit", "baseline", "ratio"}
        assert found[name]["ratio"] > 0
    assert found["journal_facts"]["value"] == 4000
    assert {"quorum_p99_ms", "startup_10k_keys_s"} <= found.keys()
