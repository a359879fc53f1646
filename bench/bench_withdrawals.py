"""How fast withdrawals leave and deposits are seen: channels against capacity, transactions in flight, waits of an idle system.

One run: each part brings up real processes of its own, with chains that close each second and rules that ask nobody.
`python -m bench.bench_withdrawals [--quick]`; `bench/{stellar_out,evm_flight,latency}.py` are the parts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from bench import evm_flight, latency, stellar_out
from bench.cells import write
from bench.cluster import BenchCluster
from devnet.config import EVM_CHAIN, STELLAR_CHAIN

Figures = dict[str, dict[str, object]]
SHARE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much is measured."""

    channels: int = 5
    ledgers: int = 30
    """How long the channels are watched."""
    flight: int = 500
    """Withdrawals of one key that are under way at once."""
    samples: int = 40
    """Of each wait, on each chain. Fewer than a hundred: their p99 is the longest of them."""


QUICK = Shape(channels=2, ledgers=4, flight=20, samples=3)


class Lost(Exception):
    """Some were lost, or replaced without reason: there is nothing to measure."""


def run(shape: Shape) -> Figures:
    """Measure everything. Raises Lost."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    return {**in_flight(shape), **through_channels(shape), **waits(shape)}


def in_flight(shape: Shape) -> Figures:
    """Transactions of one key that a node would have mined one after the other, before any block came."""
    cluster = BenchCluster()
    try:
        cluster.create("flight", migrated=True)
        with tempfile.TemporaryDirectory(prefix="flight-") as home:
            flight = asyncio.run(evm_flight.fly(cluster, Path(home), shape.flight))
    finally:
        cluster.stop()
    if not flight.whole:
        raise Lost(str(asdict(flight)))
    return {"evm_in_flight": figure(flight.in_flight, "transactions", 100)}


def through_channels(shape: Shape) -> Figures:
    """Settled withdrawals over channels times ledgers."""
    found = stellar_out.measure(shape.channels, shape.ledgers)
    return {
        "stellar_vs_capacity": figure(found["stellar_vs_capacity"], "settled per channel and ledger", 0.8),
        "stellar_per_second": figure(found["per_second"], "settled/s", shape.channels * 0.8),
    }


def waits(shape: Shape) -> Figures:
    """What an idle system takes, on the slower of the two chains and on each."""
    found = latency.measure(shape.samples, lambda _: None)
    credit, settled = found.credit_visible, found.requested_to_settled
    at = latency.quantile
    figures = {
        # A credit on EVM has waited for a further block by design: it counts from that one, in a figure of its own.
        "credit_visible_p99_s": figure(at(credit[STELLAR_CHAIN], SHARE), "s", 1.0),
        "credit_visible_evm_p99_s": figure(at(credit[EVM_CHAIN], SHARE), "s", 1.0),
        "requested_to_settled_p99_s": figure(max(at(each, SHARE) for each in settled.values()), "s", 6.0),
    }
    for name, values in (("credit_visible", credit), ("requested_to_settled", settled)):
        for chain, each in values.items():
            family = chain.partition(":")[0]
            figures[f"{name}_{family}_p50_s"] = figure(at(each, 0.5), "s", at(each, SHARE))
    return figures


def figure(value: float, unit: str, baseline: float) -> dict[str, object]:
    """`baseline` is the bar; of a median it is the p99 of the same values."""
    return {
        "value": round(value, 3),
        "unit": unit,
        "baseline": round(baseline, 3),
        "ratio": round(value / baseline, 3),
    }


def main() -> None:
    """Measure, print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only to see that it runs")
    found = run(QUICK if parser.parse_args().quick else Shape())
    for name, each in found.items():
        print(f"{name:32} {each['value']:>10} {each['unit']:<32} bar {each['baseline']}")
    print(json.dumps({"written": str(write("withdrawals", found))}))


if __name__ == "__main__":
    main()
