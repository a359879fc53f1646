"""The same rounds for as long as one likes: `python -m tests.faults.soak --kills N --seed S`.

Each round has a fresh tenant, a load and a disturbance of its own. Of ten rounds six kill Postgres, two the service (twice each)
and two have a hostile network, whose cuts are not counted as kills. The seed is printed first. Each round is drawn from the
number after the last, and one that fails names its own: `--seed THAT --kills 1` begins with it. Ends with the figures, or at the
first round that broke a promise.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import sys
import time
from collections import Counter

from tests.faults.cluster import DurableCluster, durable_cluster
from tests.faults.rounds import ROUNDS

MIX = ("postgres",) * 6 + ("service",) * 2 + ("network",) * 2


def kind_of(seed: int) -> str:
    """What is disturbed in the round of this seed."""
    return MIX[seed % len(MIX)]


async def soak(cluster: DurableCluster, kills: int, seed: int, totals: Counter[str]) -> None:
    """Rounds until so many processes were killed, counted into `totals`. Raises AssertionError."""
    while totals["processes killed"] < kills:
        kind = kind_of(seed)
        figures = await ROUNDS[kind](cluster, seed)
        totals["rounds"] += 1
        totals[f"{kind} rounds"] += 1
        totals["lines cut or delayed" if kind == "network" else "processes killed"] += figures.kills
        totals["chains acknowledged"] += figures.acknowledged
        totals["calls broken off and made again"] += figures.unanswered
        if totals["rounds"] % 10 == 0:
            print(dict(totals), flush=True)
        seed += 1


def main() -> int:
    """0 when every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="processes to kill in all")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    began = time.monotonic()
    totals: Counter[str] = Counter()
    failed = False
    with durable_cluster() as cluster:
        try:
            asyncio.run(soak(cluster, chosen.kills, chosen.seed, totals))
        except AssertionError as broken:
            print(broken, file=sys.stderr)
            failed = True
    for name, value in sorted(totals.items()):
        print(f"{name:>32} {value:>9,}")
    print(f"{'seconds':>32} {time.monotonic() - began:>9,.0f}")
    print("a promise was broken" if failed else "nothing lost, nothing doubled, nothing torn")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
