"""From commit to delivery: how long until 200 subscribers on sockets have been told of a transfer. They are one screen that many
watch, or each watches a wallet of its own, with the tenant's key or as the customer whose wallet it is.

Real processes: Postgres with durability on, the API, the worker that relays. `python -m bench.bench_subscriptions [--events N]`
prints a table and writes build/bench/subscriptions.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from websockets.asyncio.client import ClientConnection, connect

from bench.cells import write
from bench.cluster import BenchCluster
from custody.assets import service as assets
from custody.db.session import Database
from custody.identity import customer_tokens
from custody.identity import service as identity
from custody.identity.model import Principal
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import CustomerId, TransferId, VaultId, WalletId, new_uuid, show_id
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.transfers import service as transfers
from custody.transfers.model import RequestTransfer
from custody.wallets import service as wallets

SUBSCRIBERS = 200
AIM_MS, AT_MOST_MS = 40, 150
PAUSE_S = 0.1
"""Between two transfers: ten a second, each told 200 times."""
_ASSET = parse_asset_id("stellar:devnet/native")
_CONFIG = """
environment = "development"
intent_valid_s = 3600
chains = []
[redis]
url = "redis://127.0.0.1:1/0"
[signer]
socket = "/nonexistent/signer.sock"
[api]
host = "127.0.0.1"
port = {port}
streams_per_principal = 1000
"""
_QUERY = """subscription ($w: ID) { balanceChanged(walletId: $w) {
  sequence cause walletId wallet { name balances { asset { code } available reserved } } } }"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """A tenant with wallets and a key."""

    db: Database
    principal: Principal
    secret: str
    wallets: Sequence[WalletId]
    tokens: Sequence[str]
    """Each of the customer whose the wallet is."""


async def furnish(dsn: str) -> Books:
    """Wallets with money."""
    db = Database(dsn, signals=True)
    async with db.unit_of_work(None) as uow:
        await assets.register(uow, _ASSET, "XLM", 7)
        tenant = await identity.create_tenant(uow, "bench")
    async with db.unit_of_work(tenant) as uow:
        key = await identity.issue_api_key(uow, "bench", ("read", "write"))
    principal = await identity.authenticate(db, key.secret)
    made = [WalletId(new_uuid()) for _ in range(SUBSCRIBERS)]
    tokens = []
    async with db.unit_of_work(tenant) as uow:
        for n, wallet in enumerate(made):
            customer = CustomerId(new_uuid())
            await wallets.create_customer(uow, "bench", customer, name=f"Bench {n}", external_ref=str(n))
            await wallets.create_wallet(uow, "bench", wallet, customer, str(n))
            issued = await customer_tokens.issue(
                uow,
                principal,
                new_uuid(),
                customer,
                acts=(),
                lifetime=customer_tokens.LIFETIME_MAX,
                now=datetime.now(UTC),
            )
            tokens.append(issued.secret)
            booked = postings.deposit_credited(
                deposit_id=new_uuid(),
                vault_id=VaultId(customer),
                wallet_id=wallet,
                amount=Amount(_ASSET, 10**9),
            )
            await ledger.post(uow, *booked)
    return Books(db=db, principal=principal, secret=key.secret, wallets=made, tokens=tokens)


@asynccontextmanager
async def processes(cluster: BenchCluster, dsn: str) -> AsyncIterator[int]:
    """The API and the worker; the API's port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = cluster.home / "custody.toml"
    config.write_text(_CONFIG.format(port=port), "utf-8")
    env = {**os.environ, "CUSTODY_CONFIG": str(config), "CUSTODY_DATABASE__URL": dsn}
    quiet = subprocess.DEVNULL
    running = [
        await asyncio.create_subprocess_exec(sys.executable, "-m", name, env=env, stdout=quiet, stderr=quiet)
        for name in ("api.main", "custody.worker")
    ]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http, asyncio.timeout(60):
            while True:
                try:
                    await http.get("/livez")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.1)
        yield port
    finally:
        for each in running:
            each.terminate()
        for each in running:
            await each.wait()


async def subscribe(port: int, credential: str, wallet: WalletId | None) -> ClientConnection:
    """One socket that watches a wallet, or all that it may see."""
    line = await connect(f"ws://127.0.0.1:{port}/graphql", subprotocols=["graphql-transport-ws"])  # type: ignore[list-item]
    await line.send(
        json.dumps({"type": "connection_init", "payload": {"authorization": f"Bearer {credential}"}})
    )
    await line.recv()
    named = {} if wallet is None else {"w": show_id("wal", wallet)}
    for name, query in (("live", _QUERY), ("probe", "{ assets { id } }")):
        payload = {"query": query, "variables": named if name == "live" else {}}
        await line.send(json.dumps({"type": "subscribe", "id": name, "payload": payload}))
    for _ in range(2):
        await line.recv()  # the probe's answer and its end: what came before it is served
    return line


async def measure(
    port: int, books: Books, events: int, watchers: Sequence[tuple[str, WalletId | None]], told: int
) -> list[float]:
    """Milliseconds from a commit to each delivery of it. `watchers`: credentials, each with the wallet it watches, or None for
    all that it sees; `told`: how many deliveries each transfer, which touches two wallets, makes."""
    taken: list[float] = []
    committed = 0.0
    due = asyncio.Semaphore(0)
    async with AsyncExitStack() as stack:
        lines = [await subscribe(port, *each) for each in watchers]
        for line in lines:
            stack.push_async_callback(line.close)

        async def listen(line: ClientConnection) -> None:
            async for _ in line:
                taken.append((time.perf_counter() - committed) * 1000)
                due.release()

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(listen(line)) for line in lines]
            for n in range(events):
                async with books.db.unit_of_work(books.principal.tenant) as uow:
                    wanted = RequestTransfer(
                        id=TransferId(new_uuid()),
                        source_wallet_id=books.wallets[n % SUBSCRIBERS],
                        destination_wallet_id=books.wallets[(n + 1) % SUBSCRIBERS],
                        amount=Amount(_ASSET, 1),
                        fee=None,
                    )
                    await transfers.request(uow, books.principal, wanted)
                committed = time.perf_counter()
                for _ in range(told):
                    await asyncio.wait_for(due.acquire(), 30)
                await asyncio.sleep(PAUSE_S)
            for reader in readers:
                reader.cancel()
    return taken


def at(values: Sequence[float], share: float) -> float:
    """The value below which this share lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def run(cluster: BenchCluster, dsn: str, events: int) -> dict[str, list[float]]:
    """All of it."""
    books = await furnish(dsn)
    try:
        async with processes(cluster, dsn) as port:
            screen = [(books.secret, None)] * SUBSCRIBERS
            await measure(port, books, 10, screen, 2 * SUBSCRIBERS)
            return {
                "one_screen": await measure(port, books, events, screen, 2 * SUBSCRIBERS),
                "own_wallets": await measure(
                    port, books, events, [(books.secret, each) for each in books.wallets], 2
                ),
                "customers": await measure(port, books, events, [(each, None) for each in books.tokens], 2),
            }
    finally:
        await books.db.close()


def print_told(found: Mapping[str, Sequence[float]]) -> None:
    """One line for each way of watching."""
    print(f"{'':<14}{'told':>8}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}")
    for name, values in found.items():
        print(f"{name:<14}{len(values):>8}{at(values, 0.5):>9.1f}{at(values, 0.99):>9.1f}{max(values):>9.1f}")


def metrics(found: Mapping[str, Sequence[float]]) -> dict[str, dict[str, object]]:
    """The keys that the project follows."""
    worst, own, customers = (
        round(at(found[name], 0.99), 1) for name in ("one_screen", "own_wallets", "customers")
    )
    return {
        "subscription_p99_ms": {"value": worst, "unit": "ms", "at_most": AT_MOST_MS, "aim": AIM_MS},
        "subscription_own_p99_ms": {"value": own, "unit": "ms"},
        "subscription_customers_p99_ms": {"value": customers, "unit": "ms"},
    }


def main() -> int:
    """Run, print, write `build/bench/subscriptions.json`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--events", type=int, default=100)
    events = parser.parse_args().events
    cluster = BenchCluster()
    try:
        cluster.create("streams", migrated=True)
        found = asyncio.run(run(cluster, cluster.dsn("streams", "custody_app"), events))
    finally:
        cluster.stop()
    print_told(found)
    shown = metrics(found)
    print(write("subscriptions", shown))
    return 0 if at(found["one_screen"], 0.99) <= AT_MOST_MS else 1


if __name__ == "__main__":
    sys.exit(main())
