"""How fast the API answers with every check on, beside a bare endpoint over the same SQL and pgbench's TPC-B, taking turns.

One worker process each and the same load generator for both sides; ratios are taken within a round. `python -m bench.bench_api
[--quick] [--rounds N] [--seconds S]`
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256

import orjson

from bench import bench_subscriptions, pgbench
from bench.bulk import api_process, furnish, until_alive
from bench.cells import Cell, middle, print_table, ratio, write
from bench.cluster import BenchCluster
from bench.http_load import KEY, Spec, load, request
from bench.ledger_load import ASSET, FEW, Load
from custody.kernel.ids import show_id

READERS = 16
PAYERS = 64
WALLETS = 200
"""Different wallets that are asked about in turn."""
_BALANCE = "query Balance($id: ID!) { wallet(id: $id) { balances { asset { id decimals } posted pendingIn pendingOut } } }"
_PAGE50 = (
    "query Page { transfers(first: 50) { edges { node { id bookedAt amount { atomic asset { id code decimals } } } }"
    " pageInfo { hasNextPage endCursor } } }"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How long and how much."""

    rounds: int
    seconds: float
    scale: int
    events: int
    """Transfers that subscribers are told of; 0 for no subscribers."""
    warm: float = 1.0
    """Seconds before anything counts."""
    wallets: int = FEW
    """That have money."""


def cores() -> tuple[int | None, int | None]:
    """A core for the servers and one for the generator, where there are two; Postgres takes what they leave."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stand:
    """Two servers over one database, and what they are asked."""

    port: int
    """The API's."""
    bare_port: int
    secret: str
    wallets: Sequence[str]
    owners: Sequence[str]

    def cell(self, port: int, requests: list[str], *, connections: int, status: int, seconds: float) -> Cell:
        """One contender's turn."""
        return load(
            Spec(
                port=port,
                connections=connections,
                seconds=seconds,
                requests=requests,
                status=status,
                core=cores()[1],
            )
        )

    def reads(self, seconds: float) -> dict[str, Cell]:
        """Every read of one round."""
        bearer = {"Authorization": f"Bearer {self.secret}"}
        asked: dict[str, tuple[int, list[str]]] = {
            "bare_balance": (
                self.bare_port,
                [request("GET", f"/wallets/{owner}/balances", {}) for owner in self.owners],
            ),
            "rest_balance": (
                self.port,
                [request("GET", f"/v1/wallets/{wallet}/balances", bearer) for wallet in self.wallets],
            ),
            "gql_balance": (
                self.port,
                [
                    request("POST", "/graphql", bearer, _graphql(_BALANCE, {"id": wallet}))
                    for wallet in self.wallets
                ],
            ),
            "bare_page50": (self.bare_port, [request("GET", "/transfers", {})]),
            "gql_page50": (self.port, [request("POST", "/graphql", bearer, _graphql(_PAGE50, {}))]),
        }
        return {
            name: self.cell(port, requests, connections=READERS, status=200, seconds=seconds)
            for name, (port, requests) in asked.items()
        }

    def transfers(self, seconds: float) -> Cell:
        """Transfers between two wallets each, every one under a key of its own."""
        headers = {"Authorization": f"Bearer {self.secret}", "Idempotency-Key": KEY.decode()}
        count = len(self.wallets)
        requests = [
            request(
                "POST",
                "/v1/transfers",
                headers,
                orjson.dumps(
                    {
                        "from_wallet_id": self.wallets[n],
                        "to_wallet_id": self.wallets[(n * 7 + 1) % count],
                        "asset": ASSET.text,
                        "amount": "7",
                    }
                ).decode(),
            )
            for n in range(count)
            if (n * 7 + 1) % count != n
        ]
        return self.cell(self.port, requests, connections=PAYERS, status=201, seconds=seconds)


def _graphql(query: str, variables: dict[str, object]) -> str:
    """By the hash of the trusted document, as an app asks that was built with it."""
    named = f"sha256:{sha256(query.encode()).hexdigest()}"
    return orjson.dumps({"documentId": named, "variables": variables}).decode()


@asynccontextmanager
async def stand(books: Load) -> AsyncIterator[Stand]:
    """Both servers, each a process on the servers' core."""
    await books.fill()
    secret = await furnish(books)
    owners = [str(key.owner) for key in books.wallets[:WALLETS]]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bare_port = int(probe.getsockname()[1])
    # As the administrator, whom row-level security lets pass.
    env = {**os.environ, "CUSTODY_BARE_DSN": books.cluster.dsn(books.database)}
    bare = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.bare_api", str(bare_port), env=env
    )
    try:
        async with api_process(books, (_BALANCE, _PAGE50)) as (url, pid):
            await until_alive(f"http://127.0.0.1:{bare_port}")
            for each in (pid, bare.pid):
                if (core := cores()[0]) is not None:
                    os.sched_setaffinity(each, {core})
            yield Stand(
                port=int(url.rpartition(":")[2]),
                bare_port=bare_port,
                secret=secret,
                wallets=[show_id("wal", key.owner) for key in books.wallets[:WALLETS] if key.owner],
                owners=owners,
            )
    finally:
        bare.terminate()
        await bare.wait()


async def measure(cluster: BenchCluster, books: Load, shape: Shape) -> list[dict[str, Cell]]:
    """All contenders, round after round."""
    rounds = []
    async with stand(books) as both:
        await asyncio.to_thread(both.transfers, shape.warm)
        await asyncio.to_thread(both.reads, shape.warm)
        for number in range(shape.rounds):
            cells = await asyncio.to_thread(both.reads, shape.seconds)
            cells["tpcb"] = await asyncio.to_thread(pgbench.tpcb, cluster, shape.seconds)
            cells["transfer"] = await asyncio.to_thread(both.transfers, shape.seconds)
            rounds.append(cells)
            print(f"round {number + 1} of {shape.rounds}", flush=True)
            print_table([cells])
    return rounds


def metrics(rounds: list[dict[str, Cell]]) -> dict[str, dict[str, object]]:
    """The keys that the project follows."""

    def against(candidate: str, baseline: str, unit: str) -> dict[str, object]:
        return {
            "value": round(middle(rounds, candidate, lambda cell: cell.per_second), 1),
            "unit": unit,
            "baseline": round(middle(rounds, baseline, lambda cell: cell.per_second), 1),
            "ratio": round(ratio(rounds, candidate, baseline), 3),
        }

    return {
        "rest_balance_vs_bare": against("rest_balance", "bare_balance", "requests/s"),
        "gql_balance_vs_bare": against("gql_balance", "bare_balance", "requests/s"),
        "gql_page50_vs_bare": against("gql_page50", "bare_page50", "requests/s"),
        "transfer_vs_tpcb": against("transfer", "tpcb", "transfers/s"),
    }


def run(shape: Shape) -> dict[str, dict[str, object]]:
    """A server of its own, everything measured, all of it removed again."""
    cluster = BenchCluster()
    try:
        pgbench.prepare(cluster, shape.scale)
        books = Load(cluster, cluster.create("ledger", migrated=True), shape.wallets)
        rounds = asyncio.run(measure(cluster, books, shape))
        told = watch(cluster, shape.events) if shape.events else {}
    finally:
        cluster.stop()
    print_table(rounds)
    return metrics(rounds) | told


def watch(cluster: BenchCluster, events: int) -> dict[str, dict[str, object]]:
    """How soon subscribers are told, in a database of their own."""
    cluster.create("streams", migrated=True)
    told = asyncio.run(bench_subscriptions.run(cluster, cluster.dsn("streams", "custody_app"), events))
    bench_subscriptions.print_told(told)
    return bench_subscriptions.metrics(told)


def main() -> int:
    """Run, print, write `build/bench/api.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--quick", action="store_true", help="short cells, for trying it out; figures are rough"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    chosen = parser.parse_args()
    found = run(
        Shape(
            rounds=chosen.rounds or (1 if chosen.quick else 3),
            seconds=chosen.seconds or (3 if chosen.quick else 10),
            scale=10 if chosen.quick else 50,
            events=30 if chosen.quick else 100,
        )
    )
    for key, metric in found.items():
        ratio_shown = f" ratio {metric['ratio']}" if "ratio" in metric else ""
        print(f"{key:<24}{metric['value']:>12} {metric['unit']:<12}{ratio_shown}")
    print(write("api", found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
