"""No block for too long is an alarm although the node answers, and it ends when blocks come again."""

from __future__ import annotations

import asyncio

import httpx
import pytest
import structlog

from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.kernel.clock import SystemClock
from devnet.stellar.server import Served
from ingestion.failover import Failover, Terms
from ingestion.health import Status, serve
from ingestion.main import listening
from ingestion.metrics import Metrics
from ingestion.stellar.horizon import LEDGERS_MAX, HorizonLedgers
from ingestion.stellar.sources import RpcLedgers
from tests.fakes.ledger_network import close_ledgers, open_network, open_reader, shown
from tests.fakes.ledger_provider import run_provider
from tests.integration.ingestion_harness import build_loop, catch_up, open_ledgers, take_fence
from tests.integration.stellar_stage import CHAIN, served

__all__ = ["served"]


pytestmark = pytest.mark.stack


@pytest.mark.parametrize(
    ("leased_at", "booked_at", "silence_s", "silent"),
    [
        (50.0, 70.0, 30, True),
        (50.0, 71.0, 30, False),
        (70.0, None, 30, True),
        (71.0, None, 30, False),
        (None, None, 30, False),
        (50.0, 60.0, 0, False),
    ],
    ids=["long ago", "lately", "never", "not yet", "not our turn", "nobody listens"],
)
def test_when_a_chain_is_silent(
    leased_at: float | None, booked_at: float | None, silence_s: int, silent: bool
) -> None:
    status = Status(
        leased_at=leased_at, booked_at=booked_at, succeeded_at=99.0, followed_at=95.0, silence_s=silence_s
    )
    assert status.silent(100.0) is silent
    assert status.ready(100.0) is (not silent)
    assert status.idle_s(100.0) == (None if silent else 5.0)


async def test_a_chain_is_followed_only_at_its_tip(database: Database, served: Served) -> None:
    for _ in range(LEDGERS_MAX):
        served.network.close()
    source = HorizonLedgers(f"{served.url}/horizon", open_reader(served.network), timeout_s=20)
    loop = build_loop(database, source, await take_fence(database, CHAIN))
    assert await loop.step()
    assert loop.status.followed_at is None
    await catch_up(loop)
    assert loop.status.followed_at is not None
    await source.aclose()


async def test_a_chain_is_followed_where_the_newest_ledger_always_waits_for_a_second_provider(
    database: Database,
) -> None:
    network = open_network(4)
    async with run_provider(network) as first, run_provider(network) as second:
        second.view.behind = 1
        reader = open_reader(network)
        named = [(each.name, RpcLedgers(JsonRpc(each.url), reader)) for each in (first, second)]
        terms = Terms(timeout_s=20, lag_max=3, agreement_required=True)
        source = Failover(named, terms, Metrics(CHAIN, SystemClock()))
        loop = build_loop(database, source, await take_fence(database, CHAIN))
        await catch_up(loop)
        assert loop.status.followed_at is None
        # The head that was named before is reached, and never the one that is named now.
        for _ in range(3):
            before = asyncio.get_running_loop().time()
            close_ledgers(network, 1)
            await catch_up(loop)
            seen, loop.status.followed_at = loop.status.followed_at, None
            assert seen is not None
            assert seen < before
        await source.aclose()


async def test_silence_is_told_once_while_the_node_answers_and_the_worker_is_not_ready(
    database: Database, served: Served
) -> None:
    source = open_ledgers(CHAIN, served.url, served.network.passphrase, database)
    stop = asyncio.Event()
    loop = build_loop(database, source, await take_fence(database, CHAIN), stop=stop)
    now = asyncio.get_running_loop().time()
    status = loop.status
    status.leased_at, status.silence_s = now, 2
    metrics = Metrics(CHAIN, SystemClock())
    server = await serve(status, metrics, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with httpx.AsyncClient(trust_env=False) as client:

        async def becomes(code: int, silent: int) -> str:
            async with asyncio.timeout(30):
                while True:
                    answer = await client.get(f"{url}/readyz")
                    if answer.status_code == code and shown(metrics, f'silent{{chain="{CHAIN}"}}') == silent:
                        return answer.text
                    await asyncio.sleep(0.1)

        with structlog.testing.capture_logs() as told:
            async with listening(status, metrics, CHAIN):
                running = asyncio.create_task(loop.run())
                await becomes(200, 0)
                # The node answers all the while; it only closes nothing.
                assert "silent" in await becomes(503, 1)
                assert status.succeeded_at is not None
                served.network.close()
                await becomes(200, 0)
                stop.set()
                await running
    server.close()
    await source.aclose()
    events = [each["event"] for each in told if each["event"].startswith("ingestion.silen")]
    assert events[:2] == ["ingestion.silent", "ingestion.silence_ended"]
