"""How fast the ledger posts, with everything on, beside pgbench's TPC-B and an ORM on the same server in the same minutes.

Each contender runs in every round; ratios are taken within a round. Durability is the server's default: on. At the end, the same
with commits that take a millisecond longer, as on a disk that is not next door; reads under full load; and the bulk endpoint.
`python -m bench.bench_ledger [--quick] [--rounds N] [--seconds S]`
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass

import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine

from bench import lean, orm, pgbench
from bench.bulk import bulk_cell
from bench.cells import Cell, middle, print_table, ratio, write
from bench.cluster import BenchCluster
from bench.ledger_load import FEW, Load
from custody.db.session import driver_url
from custody.kernel.ids import new_uuid
from custody.ledger.poster import Poster

IN_FLIGHT = 1000
"""Requests in flight where batches of about 500 are wanted: one batch under way, the next one waiting."""
ORM_CLIENTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How long and how much."""

    rounds: int
    seconds: float
    scale: int
    many: int


async def measure(cluster: BenchCluster, load: Load, shape: Shape) -> list[dict[str, Cell]]:
    """All contenders, round after round."""
    engine = create_async_engine(driver_url(cluster.dsn("orm")), pool_size=ORM_CLIENTS)
    await orm.prepare(engine, FEW)
    await load.fill()
    await lean.prepare(cluster.dsn("lean"), load.tenant, load.wallets)
    least = Poster(lambda: lean.connect(cluster.dsn("lean")), load.give_up)
    naive = orm.OrmLedger(engine)
    chance = load.chance.random

    async def orm_spread() -> int:
        debit = int(chance() * FEW)
        return await naive.post(new_uuid(), debit, (debit + 1 + int(chance() * (FEW - 1))) % FEW, 1)

    async def orm_hot() -> int:
        return await naive.post(new_uuid(), 0, 1 + int(chance() * (FEW - 1)), 1)

    ours = {
        "spread": (IN_FLIGHT, load.spread),
        "hot": (IN_FLIGHT, load.hot),
        "failing5": (IN_FLIGHT, load.failing),
        "spread_many": (IN_FLIGHT, load.spread_many),
        "inflight16": (16, load.spread),
    }
    rounds = []
    async with asyncio.TaskGroup() as group:
        group.create_task(load.poster.run())
        group.create_task(least.run())
        for number in range(shape.rounds):
            cells = {"tpcb": await asyncio.to_thread(pgbench.tpcb, cluster, shape.seconds)}
            for name, (count, pair) in ours.items():
                cells[name] = await load.cell(pair, count, shape.seconds)
            for name, pair in (("lean", load.spread), ("lean_many", load.spread_many)):
                cells[name] = await load.cell(pair, IN_FLIGHT, shape.seconds, least)
            for name, one in (("orm_spread", orm_spread), ("orm_hot", orm_hot)):
                cells[name] = await load.timed(ORM_CLIENTS, shape.seconds, one)
            rounds.append(cells)
            print(f"round {number + 1} of {shape.rounds}", flush=True)
            print_table([cells])
        load.poster.stop()
        least.stop()
    await engine.dispose()
    return rounds


async def slow_commits(cluster: BenchCluster, load: Load, shape: Shape) -> list[dict[str, Cell]]:
    """The same where each commit waits one millisecond more before it is flushed (`commit_delay`)."""
    for database in (pgbench.DATABASE, load.database):
        await cluster.execute(f"ALTER DATABASE {database} SET commit_delay = 1000")
        await cluster.execute(f"ALTER DATABASE {database} SET commit_siblings = 0")
    poster, rounds = load.make_poster(), []
    async with asyncio.TaskGroup() as group:
        group.create_task(poster.run())
        for _ in range(shape.rounds):
            cells = {"tpcb": await asyncio.to_thread(pgbench.tpcb, cluster, shape.seconds)}
            cells["spread"] = await load.cell(load.spread, IN_FLIGHT, shape.seconds, poster)
            rounds.append(cells)
        poster.stop()
    for database in (pgbench.DATABASE, load.database):
        await cluster.execute(f"ALTER DATABASE {database} RESET commit_delay")
    return rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What is stored, and how long reads take."""

    transfers: int
    bytes_per_transfer: float
    balance_p99_us: float
    """Of balance reads while transfers are posted at full speed."""
    past_balance_p99_us: float
    """Of reads of a balance five seconds ago, by one who asks nothing else."""


async def reading(cluster: BenchCluster, load: Load, seconds: float) -> Reading:
    """Read under load, then in quiet."""
    connection = await asyncpg.connect(cluster.dsn(load.database))
    poster, ended = load.make_poster(), asyncio.Event()
    try:
        await connection.execute(f"SET app.tenant = '{load.tenant}'")
        async with asyncio.TaskGroup() as group:
            group.create_task(poster.run())
            busy = group.create_task(_readers(load, connection, ended))
            await load.cell(load.spread, IN_FLIGHT, seconds, poster)
            ended.set()
            poster.stop()
        stored = await connection.fetchrow(
            "SELECT (SELECT count(*) FROM ledger_transfers) AS transfers,"
            " (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('ledger_transfers') WHERE isleaf)"
            " + pg_total_relation_size('ledger_commands') AS bytes"
        )
        past = await _times(
            connection,
            "SELECT * FROM ledger_balance_at($1, $2, now() - interval '5 seconds')",
            load,
            500,
        )
    finally:
        await connection.close()
    assert stored is not None
    return Reading(
        transfers=stored["transfers"],
        bytes_per_transfer=float(stored["bytes"] / stored["transfers"]),
        balance_p99_us=_p99(busy.result()),
        past_balance_p99_us=_p99(past),
    )


async def _readers(
    load: Load, connection: asyncpg.Connection[asyncpg.Record], ended: asyncio.Event
) -> list[float]:
    took: list[float] = []
    query = "SELECT * FROM ledger_balances WHERE tenant_id = $1 AND account_id = $2"
    while not ended.is_set():
        took += await _times(connection, query, load, 10)
        await asyncio.sleep(0.01)
    return took


async def _times(
    connection: asyncpg.Connection[asyncpg.Record], query: str, load: Load, count: int
) -> list[float]:
    took = []
    for number in range(count):
        account = load.wallets[number % FEW].id_for(load.tenant)
        asked = time.perf_counter()
        await connection.fetch(query, load.tenant, account)
        took.append((time.perf_counter() - asked) * 1e6)
    return took


def _p99(took: list[float]) -> float:
    return sorted(took)[int(len(took) * 0.99)]


def metrics(
    rounds: list[dict[str, Cell]], slow: list[dict[str, Cell]], read: Reading, bulk: tuple[Cell, float]
) -> dict[str, dict[str, object]]:
    """The keys that the project follows."""

    def against(candidate: str, baseline: str, cells: list[dict[str, Cell]] = rounds) -> dict[str, object]:
        return {
            "value": round(middle(cells, candidate, lambda cell: cell.per_second), 1),
            "unit": "transfers/s",
            "baseline": round(middle(cells, baseline, lambda cell: cell.per_second), 1),
            "ratio": round(ratio(cells, candidate, baseline), 3),
        }

    def plain(value: float, unit: str) -> dict[str, object]:
        return {"value": round(value, 1), "unit": unit, "baseline": None, "ratio": None}

    tail = middle(rounds, "inflight16", lambda cell: cell.latency_us(0.99))
    tail_tpcb = middle(rounds, "tpcb", lambda cell: cell.latency_us(0.99))
    return {
        "spread_vs_tpcb": against("spread", "tpcb"),
        "spread_many_vs_tpcb": against("spread_many", "tpcb"),
        "hot_vs_tpcb": against("hot", "tpcb"),
        "spread_vs_orm": against("spread", "orm_spread"),
        "hot_vs_orm": against("hot", "orm_hot"),
        "inflight16_vs_tpcb": against("inflight16", "tpcb"),
        "inflight16_p99_vs_tpcb": {
            "value": round(tail, 1),
            "unit": "us",
            "baseline": round(tail_tpcb, 1),
            "ratio": round(tail / tail_tpcb, 3),
        },
        "lean_vs_tpcb": against("lean", "tpcb"),
        "lean_many_vs_tpcb": against("lean_many", "tpcb"),
        "lean_vs_orm": against("lean", "orm_spread"),
        "spread_vs_lean": against("spread", "lean"),
        "spread_many_vs_lean_many": against("spread_many", "lean_many"),
        "hot_vs_spread": against("hot", "spread"),
        "failing5_vs_clean": against("failing5", "spread"),
        "cpu_us_per_transfer": plain(middle(rounds, "spread", lambda c: c.server_us + c.client_us), "us"),
        "server_cpu_us_per_transfer": plain(middle(rounds, "spread", lambda c: c.server_us), "us"),
        "commit_1ms_spread_vs_tpcb": against("spread", "tpcb", slow),
        "api_bulk_per_s": plain(bulk[0].per_second, "transfers/s"),
        "api_peak_memory": plain(bulk[1], "MiB"),
        "disk_bytes_per_transfer": plain(read.bytes_per_transfer, "bytes"),
        "balance_p99_under_load": plain(read.balance_p99_us, "us"),
        "past_balance_p99": plain(read.past_balance_p99_us, "us"),
        "stored_transfers": plain(read.transfers, "transfers"),
    }


def main() -> int:
    """Run, print, write `build/bench/ledger.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="short cells, for trying it out; figures are rough"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    chosen = parser.parse_args()
    quick = chosen.quick
    shape = Shape(
        rounds=chosen.rounds or (1 if quick else 3),
        seconds=chosen.seconds or (3 if quick else 10),
        scale=10 if quick else 50,
        many=10_000 if quick else 100_000,
    )
    cluster = BenchCluster()
    try:
        pgbench.prepare(cluster, shape.scale)
        cluster.create("orm")
        cluster.create("lean")
        load = Load(cluster, cluster.create("ledger", migrated=True), shape.many)
        if not quick:
            cluster.age()
        rounds = asyncio.run(measure(cluster, load, shape))
        slow = asyncio.run(slow_commits(cluster, load, shape))
        read = asyncio.run(reading(cluster, load, shape.seconds))
        found = metrics(rounds, slow, read, asyncio.run(bulk_cell(load, shape.seconds)))
    finally:
        cluster.stop()
    print_table(rounds)
    for key, metric in found.items():
        print(f"{key:<28}{metric['value']:>12} {metric['unit']:<12}{metric['ratio'] or ''}")
    print(write("ledger", found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
