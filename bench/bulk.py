"""Transfers through the REST bulk endpoint of a real API process, over HTTP on loopback."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import orjson

from bench.cells import Cell
from bench.ledger_load import ASSET, FEW, Load
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.ids import CustomerId, WalletId, derived_uuid, show_id
from custody.wallets import service as wallets

CALLERS = 4
LINES = 1000
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
trusted_documents = "{documents}"
[api.requests_per_minute]
read = 100000000
write = 100000000
graphql = 100000000
"""


async def bulk_cell(load: Load, seconds: float) -> tuple[Cell, float]:
    """Requests of a thousand transfers, four at a time. Returns the cell and the server's peak memory in MiB."""
    secret = await furnish(load)
    async with api_process(load) as (url, pid):
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
        bodies = iter([_body(load) for _ in range(round(seconds * 40))])
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http:

            async def one() -> int:
                answer = await http.post(
                    "/v1/transfers/bulk", content=next(bodies), headers={"Idempotency-Key": uuid4().hex}
                )
                answer.raise_for_status()
                return int(answer.json()["posted"])

            await one()
            cell = await load.timed(CALLERS, seconds, one)
            return cell, _peak_mib(pid)


async def furnish(load: Load) -> str:
    """The small set's wallets as the API knows them, and a key."""
    database = Database(load.dsn)
    async with database.unit_of_work(load.tenant) as uow:
        key = await identity.issue_api_key(uow, "bench", ["read", "write"])
        customer = CustomerId(derived_uuid("bench", "customer"))
        await wallets.create_customer(uow, "bench", customer, name="Bench", external_ref="bench")
        for n in range(min(FEW, load.accounts)):
            await wallets.create_wallet(uow, "bench", WalletId(derived_uuid("bench", n)), customer, str(n))
    await database.close()
    return key.secret


def _body(load: Load) -> bytes:
    lines = []
    for _ in range(LINES):
        debit, credit = load.spread()
        lines.append(
            {
                "from_wallet_id": show_id("wal", debit.owner or uuid4()),
                "to_wallet_id": show_id("wal", credit.owner or uuid4()),
                "asset": ASSET.text,
                "amount": "7",
            }
        )
    return orjson.dumps({"transfers": lines})


@asynccontextmanager
async def api_process(load: Load, trusted: Sequence[str] = ()) -> AsyncIterator[tuple[str, int]]:
    """An API process over the ledger's database, which knows these GraphQL documents."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = load.cluster.home / "custody.toml"
    documents = load.cluster.home / "documents"
    documents.mkdir(exist_ok=True)
    for number, text in enumerate(trusted):
        (documents / f"{number}.graphql").write_text(text, "utf-8")
    config.write_text(_CONFIG.format(port=port, documents=documents), "utf-8")
    env = {**os.environ, "CUSTODY_CONFIG": str(config), "CUSTODY_DATABASE__URL": load.dsn}
    quiet = subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "api.main", env=env, stdout=quiet, stderr=quiet
    )
    url = f"http://127.0.0.1:{port}"
    try:
        await until_alive(url)
        yield url, process.pid
    finally:
        process.terminate()
        await process.wait()


async def until_alive(url: str) -> None:
    deadline = time.monotonic() + 60
    async with httpx.AsyncClient(base_url=url) as http:
        while True:
            try:
                await http.get("/livez")
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)
            else:
                return


def _peak_mib(pid: int) -> float:
    """The most memory that a process has had. Source: proc(5), VmHWM."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) / 1024 if found else 0.0
