"""The API's bench runs to its end and measures what it says; how fast is not a test's business."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHORT = """
import json
from bench.bench_api import Shape, run
print(json.dumps(run(Shape(rounds=1, seconds=1, scale=1, events=0, warm=0.2, wallets=20))))
"""


def test_a_short_bench_measures_everything() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHORT], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for figure in found.values():
        assert set(figure) == {"value", "unit", "baseline", "ratio"}
        assert figure["value"] > 0
    assert {
        "rest_balance_vs_bare",
        "gql_balance_vs_bare",
        "gql_page50_vs_bare",
        "transfer_vs_tpcb",
    } <= set(found)
