"""The EVM bench runs to its end and measures what it says; how fast is not a test's business."""

import json
import subprocess
import sys

import pytest

from devnet.anvil import find_anvil
from devnet.processes import StackError
from tests.integration.anvil_node import ROOT

pytestmark = pytest.mark.stack

SHORT = """
import json
from bench.bench_evm import Shape, run
found = run(Shape(blocks=20, rounds=1, stretch=20, many=2_000, grown=(10, 20)))
print(json.dumps(found))
"""


def test_a_short_bench_measures_everything() -> None:
    try:
        find_anvil(ROOT)
    except StackError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [sys.executable, "-c", SHORT], cwd=ROOT, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for figure in found.values():
        assert set(figure) == {"value", "unit", "baseline", "ratio"}
        assert figure["value"] > 0
    assert {"blocks_vs_fetch", "blocks_vs_replay", "watch_cost", "watch_cost_balances", "rss_growth"} < set(
        found
    )
