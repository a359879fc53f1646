"""How fast EVM blocks are ingested end to end into Postgres, beside the bare fetching and parsing of the same answers.

One run makes the chain: anvil, blocks of a hundred transactions, every fourth with two payments to accounts of ours. A pass that
is not timed records every request that the worker sends; the baseline sends the same bodies in the same order, as many at
a time as the worker ever had in flight, through the same HTTP client, and parses the answers with orjson. Both begin with
nothing and take turns; ratios are taken within a round.

`blocks_vs_fetch` is against anvil, a node as it is: most of the time is the node's, and ingestion must not add to it. That ratio
would hide how much work ingestion is, so `blocks_vs_replay` says the same of a server that answers with recorded bytes at next to
no cost: there everything counts that proving and booking a block takes over reading it. Watching and memory are measured on
that server too; its blocks go on as long as is wanted (`bench.evm_replay` says how they differ).
`python -m bench.bench_evm [--quick] [--rounds N]`
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import orjson

from bench import evm_replay
from bench.cells import write
from bench.cluster import BenchCluster
from bench.evm_books import Booked, Books, Mode, count_deposits, grow_alone, make_desk, silence
from bench.evm_chain import OURS_EVERY, Recorded, fill, run_anvil
from custody.chains.jsonrpc import RPC_TIMEOUT_S, JsonRpc

FEW, MANY = 1_000, 1_000_000
"""Watched addresses."""
ROLE = "custody_app"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How much is measured."""

    blocks: int
    """Of the chain: a multiple of a fetch, since the replayed chain goes on and whole batches are booked."""
    rounds: int
    stretch: int
    """Blocks of one round of watching."""
    many: int
    """Watched addresses where there are many."""
    grown: tuple[int, int]
    """After how many blocks memory is read."""


FULL = Shape(blocks=100, rounds=5, stretch=100, many=MANY, grown=(1_000, 10_000))
QUICK = Shape(blocks=40, rounds=1, stretch=20, many=10_000, grown=(20, 40))


class RecordingRpc(JsonRpc):
    """Keeps the bodies that are sent, and how many were in flight at once."""

    def __init__(self, url: str) -> None:
        """See JsonRpc."""
        super().__init__(url)
        self.bodies: list[bytes] = []
        self.most = 0
        self._flying = 0

    async def _post(self, method: str, body: Any) -> Any:
        self.bodies.append(orjson.dumps(body))
        self._flying += 1
        self.most = max(self.most, self._flying)
        try:
            return await super()._post(method, body)
        finally:
            self._flying -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Both contenders, one after the other."""

    booked: Booked
    fetch_s: float
    fetch_cpu_s: float

    @property
    def ratio(self) -> float:
        """Blocks a second, booked over fetched."""
        return self.fetch_s / self.booked.seconds


class Bench:
    """The databases and the chain, and what is measured on them."""

    def __init__(self, cluster: BenchCluster, chain: Recorded, shape: Shape) -> None:
        """Makes the desks: `few` and `many` watch as their names say."""
        self._cluster, self._shape, self._made = cluster, shape, 0
        make_desk(cluster, "few", chain.token, FEW)
        make_desk(cluster, "many", chain.token, shape.many)

    def beside_fetch(self, url: str, first: int) -> list[Round]:
        """Ingestion and bare fetching of the same blocks, in turns."""
        recording = RecordingRpc(url)
        asyncio.run(self._book(recording, first))
        rounds = []
        for _ in range(self._shape.rounds):
            started, cpu = time.perf_counter(), time.process_time()
            asyncio.run(_fetch(url, recording.bodies, recording.most))
            fetch_s, fetch_cpu_s = time.perf_counter() - started, time.process_time() - cpu
            booked = asyncio.run(self._book(JsonRpc(url), first))
            rounds.append(Round(booked=booked, fetch_s=fetch_s, fetch_cpu_s=fetch_cpu_s))
        return rounds

    async def _book(self, rpc: JsonRpc, first: int) -> Booked:
        """Every block into books that are new."""
        name = await self._copy("few")
        books = Books(self._cluster.dsn(name, ROLE), rpc)
        try:
            booked = await books.follow(first, self._shape.blocks, self._cluster.cpu_seconds)
        finally:
            await books.close()
        if await count_deposits(self._cluster.dsn(name)) != 2 * (self._shape.blocks // OURS_EVERY):
            raise RuntimeError("not every payment was booked: the figures would mean nothing")
        return booked

    async def _copy(self, name: str) -> str:
        self._made += 1
        await self._cluster.execute(f"CREATE DATABASE copy{self._made} TEMPLATE {name}")
        return f"copy{self._made}"

    async def watching(self, url: str, mode: Mode) -> list[float]:
        """Cost of a block with many watched addresses over few: of each round, the two in turns."""
        desks = [
            Books(self._cluster.dsn(await self._copy(name), ROLE), JsonRpc(url), mode)
            for name in ("few", "many")
        ]
        ratios = []
        try:
            for number in range(self._shape.rounds + 1):
                few, many = [
                    await desk.follow(evm_replay.FIRST, self._shape.stretch, self._cluster.cpu_seconds)
                    for desk in desks
                ]
                # In the first the statements are prepared.
                if number:
                    ratios.append(many.cpu_ms_per_block / few.cpu_ms_per_block)
        finally:
            for desk in desks:
                await desk.close()
        return ratios

    async def growth(self, url: str) -> list[float]:
        """Memory of a worker after few and after many blocks."""
        dsn = self._cluster.dsn(await self._copy("few"), ROLE)
        return await asyncio.to_thread(grow_alone, url, dsn, evm_replay.FIRST, self._shape.grown)


async def _fetch(url: str, bodies: list[bytes], at_once: int) -> None:
    """Send every body, so many at a time, and parse every answer."""
    waiting = deque(bodies)
    async with httpx.AsyncClient(
        timeout=RPC_TIMEOUT_S, trust_env=False, headers={"content-type": "application/json"}
    ) as client:

        async def work() -> None:
            while waiting:
                orjson.loads((await client.post(url, content=waiting.popleft())).content)

        await asyncio.gather(*(work() for _ in range(at_once)))


def metrics(
    node: list[Round], replay: list[Round], watching: dict[Mode, list[float]], grown: list[float]
) -> dict[str, dict[str, object]]:
    """The keys that the project follows."""

    def against(rounds: list[Round]) -> dict[str, object]:
        blocks = rounds[0].booked.blocks
        return {
            "value": round(median(blocks / each.booked.seconds for each in rounds), 1),
            "unit": "blocks/s",
            "baseline": round(median(blocks / each.fetch_s for each in rounds), 1),
            "ratio": round(median(each.ratio for each in rounds), 3),
        }

    def plain(value: float, unit: str) -> dict[str, object]:
        return {"value": round(value, 3), "unit": unit, "baseline": None, "ratio": None}

    return {
        "blocks_vs_fetch": against(node),
        "blocks_vs_replay": against(replay),
        "watch_cost": plain(median(watching["debug"]), "ratio"),
        "watch_cost_balances": plain(median(watching["balances"]), "ratio"),
        "rss_growth": plain(grown[1] / grown[0], "ratio"),
        "rss_mib": plain(grown[1], "MiB"),
        "worker_cpu_per_block": plain(
            median(each.booked.worker_cpu_s / each.booked.blocks * 1e3 for each in replay), "ms"
        ),
        "server_cpu_per_block": plain(
            median(each.booked.server_cpu_s / each.booked.blocks * 1e3 for each in replay), "ms"
        ),
        "fetch_cpu_per_block": plain(
            median(each.fetch_cpu_s / each.booked.blocks * 1e3 for each in replay), "ms"
        ),
    }


def run(shape: Shape) -> dict[str, dict[str, object]]:
    """Make the chain and the books, and measure."""
    silence()
    cluster = BenchCluster()
    try:
        with run_anvil() as url, tempfile.TemporaryDirectory() as scratch:
            print(f"{shape.blocks} blocks on anvil, {shape.many} watched addresses", flush=True)
            chain = asyncio.run(fill(url, shape.blocks))
            bench = Bench(cluster, chain, shape)
            print("ingestion beside fetching", flush=True)
            node = bench.beside_fetch(url, chain.first)
            tape = Path(scratch) / "blocks"
            tape.write_bytes(asyncio.run(evm_replay.record(chain)))
            with evm_replay.serve(tape, 10 * shape.grown[1]) as replay_url:
                replay = bench.beside_fetch(replay_url, evm_replay.FIRST)
                print("watching few and many", flush=True)
                modes: tuple[Mode, ...] = ("debug", "balances")
                watching = {mode: asyncio.run(bench.watching(replay_url, mode)) for mode in modes}
                print(f"memory over {shape.grown[1]} blocks", flush=True)
                grown = asyncio.run(bench.growth(replay_url))
        return metrics(node, replay, watching, grown)
    finally:
        cluster.stop()


def main() -> int:
    """Measure, print, write build/bench/evm.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few blocks, one round")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args()
    shape = QUICK if options.quick else FULL
    if options.rounds is not None:
        if options.rounds < 1:
            parser.error("--rounds: at least one")
        shape = Shape(
            blocks=shape.blocks,
            rounds=options.rounds,
            stretch=shape.stretch,
            many=shape.many,
            grown=shape.grown,
        )
    found = run(shape)
    for name, figure in found.items():
        ratio = "" if figure["ratio"] is None else f"   {figure['ratio']} times {figure['baseline']}"
        print(f"{name:<22}{figure['value']:>10} {figure['unit']}{ratio}")
    print(write("evm", found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
