"""How fast the ledger posts, with everything on, beside pgbench's TPC-B and an ORM on the same server in the same minutes.

Each contender runs in every round; ratios are taken within a round. Durability is the server's default: on.
`python -m bench.bench_ledger [--quick] [--rounds N] [--seconds S]`
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import create_async_engine

from bench import orm, pgbench
from bench.cells import Cell, clients, middle, print_table, ratio, write
from bench.cluster import BenchCluster
from custody.assets import service as assets
from custody.db.session import Database, driver_url
from custody.identity import service as identity
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.channel import connect
from custody.ledger.model import AccountKey, OpenAccount, Transfer, TransferCode
from custody.ledger.poster import Poster

ASSET = parse_asset_id("stellar:devnet/native")
VAULT = postings.vault_account(derived_uuid("bench", "vault"), ASSET)
IN_FLIGHT = 1000
"""Requests in flight where batches of about 500 are wanted: one batch under way, the next one waiting."""
ORM_CLIENTS = 16
FEW = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How long and how much."""

    rounds: int
    seconds: float
    scale: int
    many: int


class Load:
    """Our ledger, filled, with a running batcher."""

    def __init__(self, cluster: BenchCluster, database: str, accounts: int) -> None:
        """`accounts` wallets, of which the first thousand are the small set."""
        self.cluster, self.database = cluster, database
        self.wallets = [postings.wallet_account(derived_uuid("bench", n), ASSET) for n in range(accounts)]
        self.poor = postings.wallet_account(derived_uuid("bench", "poor"), ASSET)
        self.chance = random.Random(20_261_123)
        self.tenant = TenantId(0)
        self.poster = Poster(lambda: connect(cluster.dsn(database, "custody_app")), self._pause)

    async def _pause(self, attempt: int) -> None:
        raise RuntimeError(f"the ledger gave way or was lost ({attempt}): this bench expects neither")

    async def fill(self) -> None:
        """Open all accounts and give every wallet money."""
        database = Database(self.cluster.dsn(self.database, "custody_app"))
        async with database.unit_of_work(None) as uow:
            await assets.register(uow, ASSET, "XLM", 7)
            self.tenant = await identity.create_tenant(uow, "bench")
        await self._each(database, [[OpenAccount(key=key)] for key in (VAULT, self.poor, *self.wallets)])
        await self._each(database, [[self.transfer(VAULT, key, 10**12)] for key in self.wallets])
        await database.close()
        await self.cluster.execute("VACUUM ANALYZE", self.database)

    async def _each(self, database: Database, chains: list[list[OpenAccount]] | list[list[Transfer]]) -> None:
        for start in range(0, len(chains), 1000):
            async with database.unit_of_work(self.tenant) as uow:
                await service.submit(uow, chains[start : start + 1000])

    def transfer(self, debit: AccountKey, credit: AccountKey, atomic: int) -> Transfer:
        """A new transfer between two accounts."""
        command_id = new_uuid()
        return Transfer(
            id=command_id,
            debit=debit,
            credit=credit,
            amount=Amount(ASSET, atomic),
            code=TransferCode.WALLET_TRANSFER,
            reference=command_id,
        )

    def pair(self, accounts: int) -> tuple[AccountKey, AccountKey]:
        """Two different wallets among the first so many."""
        first = int(self.chance.random() * accounts)
        second = (first + 1 + int(self.chance.random() * (accounts - 1))) % accounts
        return self.wallets[first], self.wallets[second]

    async def spread(self, accounts: int) -> int:
        """One transfer between any two wallets."""
        return await self._post(*self.pair(accounts))

    async def hot(self) -> int:
        """One transfer to or from the one wallet that is in all of them."""
        other = self.wallets[1 + int(self.chance.random() * (FEW - 1))]
        hot = self.wallets[0]
        return await self._post(*((hot, other) if self.chance.random() < 0.5 else (other, hot)))

    async def failing(self) -> int:
        """One transfer between any two wallets; one in twenty comes from a wallet that has nothing."""
        debit, credit = self.pair(FEW)
        return await self._post(self.poor if self.chance.random() < 0.05 else debit, credit)

    async def _post(self, debit: AccountKey, credit: AccountKey) -> int:
        await self.poster.submit(
            self.tenant, self.transfer(debit, credit, 1 + int(self.chance.random() * 999))
        )
        return 1

    async def cell(self, count: int, seconds: float, one: Callable[[], Awaitable[int]]) -> Cell:
        """One contender of ours."""
        return await clients(count, seconds, self.cluster.cpu_seconds, one)


async def measure(cluster: BenchCluster, load: Load, shape: Shape) -> list[dict[str, Cell]]:
    """All contenders, round after round."""
    engine = create_async_engine(driver_url(cluster.dsn("orm")), pool_size=ORM_CLIENTS)
    await orm.prepare(engine, FEW)
    await load.fill()
    naive = orm.OrmLedger(engine)

    async def orm_spread() -> int:
        debit = int(load.chance.random() * FEW)
        return await naive.post(_key(), debit, (debit + 1 + int(load.chance.random() * (FEW - 1))) % FEW, 1)

    async def orm_hot() -> int:
        return await naive.post(_key(), 0, 1 + int(load.chance.random() * (FEW - 1)), 1)

    rounds = []
    async with asyncio.TaskGroup() as group:
        group.create_task(load.poster.run())
        for number in range(shape.rounds):
            ours = {
                "spread": (IN_FLIGHT, lambda: load.spread(FEW)),
                "hot": (IN_FLIGHT, load.hot),
                "failing5": (IN_FLIGHT, load.failing),
                "spread_many": (IN_FLIGHT, lambda: load.spread(shape.many)),
                "inflight16": (16, lambda: load.spread(FEW)),
                "orm_spread": (ORM_CLIENTS, orm_spread),
                "orm_hot": (ORM_CLIENTS, orm_hot),
            }
            cells = {"tpcb": await asyncio.to_thread(pgbench.tpcb, cluster, shape.seconds)}
            for name, (count, one) in ours.items():
                gc.collect()
                cells[name] = await load.cell(count, shape.seconds, one)
            rounds.append(cells)
            print(f"round {number + 1} of {shape.rounds}", flush=True)
            print_table([cells])
        load.poster.stop()
    await engine.dispose()
    return rounds


def _key() -> UUID:
    return new_uuid()


async def reading(cluster: BenchCluster, load: Load) -> dict[str, float]:
    """What is stored, and how long a balance takes to read by one who asks nothing else."""
    connection = await asyncpg.connect(cluster.dsn(load.database))
    try:
        stored = await connection.fetchrow(
            "SELECT count(*) AS transfers, pg_total_relation_size('ledger_transfers') AS transfers_size,"
            " pg_total_relation_size('ledger_commands') AS commands_size FROM ledger_transfers"
        )
        await connection.execute(f"SET app.tenant = '{load.tenant}'")
        took = []
        for number in range(500):
            account = load.wallets[number].id_for(load.tenant)
            asked = time.perf_counter()
            await connection.fetch(
                "SELECT * FROM ledger_balance_at($1, $2, now() - interval '5 seconds')", load.tenant, account
            )
            took.append((time.perf_counter() - asked) * 1e6)
    finally:
        await connection.close()
    assert stored is not None
    return {
        "transfers": stored["transfers"],
        "bytes": (stored["transfers_size"] + stored["commands_size"]) / stored["transfers"],
        "past_balance_p99_us": sorted(took)[494],
    }


def metrics(rounds: list[dict[str, Cell]], read: dict[str, float]) -> dict[str, dict[str, object]]:
    """The keys that the project follows."""

    def against(candidate: str, baseline: str) -> dict[str, object]:
        return {
            "value": round(middle(rounds, candidate, lambda cell: cell.per_second), 1),
            "unit": "transfers/s",
            "baseline": round(middle(rounds, baseline, lambda cell: cell.per_second), 1),
            "ratio": round(ratio(rounds, candidate, baseline), 3),
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
        "hot_vs_spread": against("hot", "spread"),
        "failing5_vs_clean": against("failing5", "spread"),
        "cpu_us_per_transfer": plain(middle(rounds, "spread", lambda c: c.server_us + c.client_us), "us"),
        "server_cpu_us_per_transfer": plain(middle(rounds, "spread", lambda c: c.server_us), "us"),
        "disk_bytes_per_transfer": plain(read["bytes"], "bytes"),
        "past_balance_p99_us": plain(read["past_balance_p99_us"], "us"),
        "stored_transfers": plain(read["transfers"], "transfers"),
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
        load = Load(cluster, cluster.create("ledger", migrated=True), shape.many)
        rounds = asyncio.run(measure(cluster, load, shape))
        found = metrics(rounds, asyncio.run(reading(cluster, load)))
    finally:
        cluster.stop()
    print_table(rounds)
    for key, metric in found.items():
        print(f"{key:<28}{metric['value']:>12} {metric['unit']:<12}{metric['ratio'] or ''}")
    print(write("ledger", found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
