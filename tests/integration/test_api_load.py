"""Two API processes under load, one of them killed in the middle: every balance exact to the unit, every key one effect."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from custody.assets import service as assets
from custody.audit import service as audit
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.ids import CustomerId, TenantId, VaultId, WalletId, new_uuid, show_id
from custody.wallets import service as wallets
from devnet.ports import choose_port
from tests.integration.api_harness import FUNDS, XLM, fund
from tests.integration.test_api_process import Process, start, wait_until_alive

WALLETS = 6
TRANSFERS = 160
CALLERS = 24


class Pair:
    """Two processes over one database."""

    def __init__(self, app_dsn: str, folder: Path) -> None:
        self._dsn = app_dsn
        self._homes = [folder / name for name in ("one", "two")]
        self._ports = [choose_port(f"api-{n}", None, set(), lambda _: None) for n in range(2)]
        self.processes = [self.begin(n) for n in range(2)]

    def begin(self, n: int) -> subprocess.Popen[bytes]:
        self._homes[n].mkdir(exist_ok=True)
        with (self._homes[n] / "api.log").open("ab") as out:
            return start(self._dsn, self._homes[n], self._ports[n], out.fileno())

    def url(self, n: int) -> str:
        return f"http://127.0.0.1:{self._ports[n]}"

    def wait(self) -> None:
        for n, popen in enumerate(self.processes):
            wait_until_alive(Process(popen=popen, url=self.url(n), log=self._homes[n] / "api.log"))


@pytest.fixture
def pair(app_dsn: str, tmp_path: Path) -> Iterator[Pair]:
    made = Pair(app_dsn, tmp_path)
    try:
        made.wait()
        yield made
    finally:
        for popen in made.processes:
            popen.kill()
            popen.wait()


async def furnish(database: Database, tenant: TenantId) -> tuple[str, list[WalletId]]:
    """A key, and wallets with money."""
    async with database.unit_of_work(None) as uow:
        await assets.register(uow, XLM, "XLM", 7)
    async with database.unit_of_work(tenant) as uow:
        key = await identity.issue_api_key(uow, "load", ("read", "write"))
        customer, vault = CustomerId(new_uuid()), VaultId(new_uuid())
        await wallets.create_customer(uow, "test", customer, name="Load", external_ref="load")
        made = [WalletId(new_uuid()) for _ in range(WALLETS)]
        for n, wallet in enumerate(made):
            await wallets.create_wallet(uow, "test", wallet, customer, str(n))
            await fund(uow, wallet, vault, XLM)
    return key.secret, made


def make_order(chance: random.Random, owners: list[WalletId]) -> dict[str, Any]:
    """Between any two; some ask for more than anybody has."""
    source, destination = chance.sample(owners, 2)
    return {
        "from_wallet_id": show_id("wal", source),
        "to_wallet_id": show_id("wal", destination),
        "asset": XLM.text,
        "amount": str(chance.choice([1, 7, 1_000_003, FUNDS * 100])),
    }


async def test_balances_are_exact_after_load_and_a_kill(
    pair: Pair, database: Database, tenant: TenantId
) -> None:
    chance = random.Random(20_261_127)
    secret, owners = await furnish(database, tenant)
    orders = [make_order(chance, owners) for _ in range(TRANSFERS)]
    waiting = list(enumerate(orders)) + chance.sample(list(enumerate(orders)), TRANSFERS // 4)
    answers: dict[int, set[tuple[int, bytes]]] = {n: set() for n in range(TRANSFERS)}
    half = asyncio.Event()

    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:

        async def ask(n: int, order: dict[str, Any]) -> None:
            headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": f"load-{n}"}
            while True:
                with suppress(httpx.TransportError):
                    answer = await http.post(
                        pair.url(chance.randrange(2)) + "/v1/transfers", json=order, headers=headers
                    )
                    if answer.status_code < 500:
                        answers[n].add(
                            (answer.status_code, answer.content if answer.status_code == 201 else b"")
                        )
                        return
                await asyncio.sleep(0.05)

        async def caller() -> None:
            while waiting:
                if len(waiting) < TRANSFERS * 2 // 3:
                    half.set()
                await ask(*waiting.pop())

        async def kill() -> None:
            await half.wait()
            pair.processes[1].kill()
            pair.processes[1].wait()
            pair.processes[1] = pair.begin(1)

        await asyncio.gather(kill(), *(caller() for _ in range(CALLERS)))
    assert {len(found) for found in answers.values()} == {1}
    done = [orders[n] for n, found in answers.items() if next(iter(found))[0] == 201]
    assert 0 < len(done) < TRANSFERS
    expected = {show_id("wal", each): FUNDS for each in owners}
    for order in done:
        expected[order["from_wallet_id"]] -= int(order["amount"])
        expected[order["to_wallet_id"]] += int(order["amount"])
    async with database.read(tenant) as session:
        rows = await session.conn.execute(
            text("SELECT owner, posted FROM ledger_balances WHERE kind = 'wallet' AND tenant_id = :tenant"),
            {"tenant": tenant},
        )
        assert {show_id("wal", row.owner): int(row.posted) for row in rows} == expected
        told = await session.conn.execute(
            text("SELECT count(*) FROM outbox WHERE type = 'transfer.posted' AND tenant_id = :tenant"),
            {"tenant": tenant},
        )
        kept = await session.conn.execute(
            text("SELECT count(*) FROM idempotency_keys WHERE tenant_id = :tenant"), {"tenant": tenant}
        )
        assert (told.scalar_one(), kept.scalar_one()) == (len(done), len(done))
        await audit.verify(session)
