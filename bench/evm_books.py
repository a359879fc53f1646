"""Blocks booked end to end: from a node's answers through the worker's loop into Postgres, with many vaults watched.

As a program it books so many blocks in a process of its own and prints, at each count it was given, the memory that it has:
`python -m bench.evm_books URL DSN FIRST COUNT…`.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import asyncpg
import structlog

from bench.cluster import BenchCluster
from bench.evm_chain import OURS
from custody.assets import service as assets
from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.clock import SystemClock
from custody.kernel.ids import TenantId
from devnet.anvil import CHAIN_ID
from ingestion import cursor
from ingestion.evm.sources import Means, RpcBlocks
from ingestion.evm.worker import build_listed
from ingestion.finality import Terms
from ingestion.health import Status
from ingestion.loop import Loop, Pace
from ingestion.metrics import Metrics
from ingestion.reorg import FinalityRule
from ingestion.watch import build_watch

CHAIN = ChainId(f"eip155:{CHAIN_ID}")
TERMS = Terms(rule=FinalityRule(confirmations=12))
Mode = Literal["balances", "debug"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What it took to book so many blocks."""

    blocks: int
    seconds: float
    worker_cpu_s: float
    server_cpu_s: float

    @property
    def cpu_ms_per_block(self) -> float:
        """Of the worker and of Postgres together."""
        return (self.worker_cpu_s + self.server_cpu_s) / self.blocks * 1e3


class Books:
    """One database whose chain is followed, a stretch of blocks at a time."""

    def __init__(self, dsn: str, rpc: JsonRpc, mode: Mode = "balances") -> None:
        """`mode`: how value inside calls is seen."""
        self._db = Database(dsn)
        self._source = RpcBlocks(
            CHAIN,
            rpc,
            CHAIN_ID,
            build_watch(CHAIN, self._db),
            listed=build_listed(CHAIN, self._db),
            means=Means(inner_value=mode),
        )
        self.metrics = Metrics(CHAIN, SystemClock())

    async def follow(
        self,
        first: int,
        blocks: int,
        server_cpu: Callable[[], float],
        each_step: Callable[[int], None] | None = None,
    ) -> Booked:
        """Book so many more blocks, the first of all at `first`. What is booked beyond is counted too."""
        async with self._db.unit_of_work(None) as uow:
            fence = await cursor.take_over(uow, CHAIN)
        loop = Loop(
            db=self._db,
            source=self._source,
            pace=Pace(terms=TERMS, start_height=first, poll_interval_s=1.0),
            fence=fence,
            stop=asyncio.Event(),
            metrics=self.metrics,
            status=Status(),
        )
        stood = await self._height(first - 1)
        started, worker, server = time.perf_counter(), time.process_time(), server_cpu()
        while (stands := await self._height(first - 1)) < stood + blocks:
            if not await loop.step():
                raise RuntimeError("the node has too few blocks: the figures would mean nothing")
            if each_step is not None:
                each_step(stands - first + 1)
        return Booked(
            blocks=stands - stood,
            seconds=time.perf_counter() - started,
            worker_cpu_s=time.process_time() - worker,
            server_cpu_s=server_cpu() - server,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._source.aclose()
        await self._db.close()

    async def _height(self, otherwise: int) -> int:
        async with self._db.read(None) as session:
            position = await cursor.load(session, CHAIN)
        return otherwise if position is None else position.height


def make_desk(cluster: BenchCluster, name: str, token: str, watched: int) -> str:
    """A migrated database whose tenant lists ether and the token and watches so many addresses, OURS among them."""
    cluster.create(name, migrated=True)
    asyncio.run(_open_desk(cluster, name, token, watched))
    return name


async def _open_desk(cluster: BenchCluster, name: str, token: str, watched: int) -> None:
    db = Database(cluster.dsn(name, "custody_app"))
    try:
        async with db.unit_of_work(None) as uow:
            await assets.register(uow, native(CHAIN), "ETH", 18)
            await assets.register(uow, AssetId(CHAIN, f"erc20:{token}"), "TUSD", 6)
            tenant = await identity.create_tenant(uow, "bench")
    finally:
        await db.close()
    await _add_vaults(cluster, name, tenant, watched)


async def _add_vaults(cluster: BenchCluster, name: str, tenant: TenantId, watched: int) -> None:
    ours = ",".join(f"('{account}')" for account in OURS)
    strangers = f"SELECT '0x' || md5(n::text) || lpad(to_hex(n), 8, '0') FROM generate_series(1, {watched - len(OURS)}) AS n"
    await cluster.execute(
        "INSERT INTO vaults (tenant_id, id, chain, purpose, key_id, account) "
        f"SELECT {tenant}, gen_random_uuid(), '{CHAIN}', 'omnibus', md5(account), account "
        f"FROM (VALUES {ours} UNION ALL {strangers}) AS x(account)",
        name,
    )
    await cluster.execute("VACUUM ANALYZE", name)


async def count_deposits(dsn: str) -> int:
    """How many payments were seen."""
    connection = await asyncpg.connect(dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM deposits"))
    finally:
        await connection.close()


def grow_alone(url: str, dsn: str, first: int, counts: Sequence[int]) -> list[float]:
    """Memory in MiB, at each of these counts of blocks, of a process that does nothing but follow the chain."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.evm_books", url, dsn, str(first), *map(str, counts)],
        capture_output=True,
        check=True,
        text=True,
    )
    return [float(each) for each in done.stdout.split()]


def rss_mib() -> float:
    """What this process has now. Source: proc(5), status."""
    (line,) = [
        each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmRSS")
    ]
    return int(line.split()[1]) / (1 << 10)


def silence() -> None:
    """The worker tells of what it books; here that would only cost time on the terminal."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


async def _grow(url: str, dsn: str, first: int, counts: Sequence[int]) -> None:
    books = Books(dsn, JsonRpc(url))
    stood = 0
    for count in counts:
        booked = await books.follow(first, count - stood, lambda: 0.0)
        stood += booked.blocks
        print(rss_mib(), flush=True)
    await books.close()


def main() -> int:
    """Follow, and print the memory at each count."""
    arguments: list[Any] = sys.argv[1:]
    silence()
    asyncio.run(_grow(arguments[0], arguments[1], int(arguments[2]), [int(each) for each in arguments[3:]]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
