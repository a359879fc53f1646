"""The bench of withdrawals runs to its end and measures what it says; how fast is not a test's business.

What an idle system takes is measured on the stack of test_devnet_stack_up.py.
"""

from __future__ import annotations

import pytest

from bench.bench_withdrawals import Shape, in_flight, through_channels

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


def test_a_short_bench_measures_what_leaves() -> None:
    shape = Shape(channels=1, ledgers=2, flight=8)
    found = {**in_flight(shape), **through_channels(shape)}
    assert set(found) == {"evm_in_flight", "stellar_vs_capacity", "stellar_per_second"}
    for figure in found.values():
        assert set(figure) == {"value", "unit", "baseline", "ratio"}
        assert float(str(figure["value"])) > 0
    assert found["evm_in_flight"]["value"] == 8
