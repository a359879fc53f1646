"""The worker's loops with a real Valkey that is flushed, absent, late or lied in while withdrawals complete."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from custody import worker
from custody.db.session import Database
from custody.events.wakeup import QUEUE, Waker
from custody.kernel.ids import TenantId
from custody.withdrawals.model import Withdrawal
from devnet.ports import choose_port
from devnet.processes import answers
from devnet.valkey import url, valkey_spec
from tests.fakes.withdrawal_world import ETH, EVM, FUNDS, STELLAR, XLM, World, make_settings

PATIENCE_S = 120


class Valkey:
    """A server that can be started late and killed."""

    def __init__(self, folder: Path) -> None:
        self.port = choose_port("valkey", None, set(), lambda _: None)
        self.spec = valkey_spec(folder, self.port)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return url(self.port)

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.spec.argv, env=dict(self.spec.env), cwd=self.spec.cwd, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while not answers(self.spec.ready):
            if time.monotonic() > deadline:
                raise TimeoutError("valkey did not start")
            time.sleep(0.02)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    made = Valkey(tmp_path)
    yield made
    made.kill()


@asynccontextmanager
async def working(database: Database, tenant: TenantId, redis: str, sweep_s: float) -> AsyncIterator[World]:
    """A world with a worker at work, and blocks that close by themselves."""
    settings = make_settings(redis={"url": redis}, sweep_interval_s=sweep_s)
    world = await World(db=database, tenant=tenant, settings=settings).open()
    stop, waker = asyncio.Event(), Waker(redis)
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.run(world.means, waker, stop))
        blocks = group.create_task(close_blocks(world))
        try:
            yield world
        finally:
            blocks.cancel()
            stop.set()
    await waker.close()


async def close_blocks(world: World) -> None:
    while True:
        for chain in (STELLAR, EVM):
            await world.ingest(chain)
        await asyncio.sleep(0.05)


async def reach(world: World, made: list[Withdrawal], state: str) -> None:
    """Wait until all of them have come to this state."""

    async def all_there() -> bool:
        return {await world.state(each) for each in made} == {state}

    await until(all_there)


async def until(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait for it; fails when it takes too long."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await check():
                return
            await asyncio.sleep(0.05)


async def test_withdrawals_complete_while_redis_is_flushed_all_the_time(
    database: Database, tenant: TenantId, valkey: Valkey
):
    valkey.start()

    async def flush() -> None:
        async with Redis.from_url(valkey.url) as client:
            while True:
                await client.flushall()
                await asyncio.sleep(0.005)

    async with working(database, tenant, valkey.url, 0.1) as world:
        flusher = asyncio.create_task(flush())
        made = [await world.request(asset, approve=("alice", "bob")) for asset in (XLM, ETH) * 4]
        await reach(world, made, "settled")
        flusher.cancel()
        await asyncio.wait({flusher})
        assert len(world.chains[STELLAR].included) == 4
        assert len(world.chains[EVM].included) == 4
        assert await world.money(XLM) == (FUNDS - 4000, 0, FUNDS - 4400, 400)
        assert await world.money(ETH) == (FUNDS - 4000, 0, FUNDS - 4400, 400)


async def test_worker_sweeps_without_redis_and_hears_wakeups_once_it_is_there(
    database: Database, tenant: TenantId, valkey: Valkey
):
    async with working(database, tenant, valkey.url, 0.1) as world:
        made = [await world.request(approve=("alice", "bob"))]
        await reach(world, made, "settled")
        valkey.start()
        await heard(valkey)
        valkey.kill()
        more = [await world.request(approve=("alice", "bob"))]
        await reach(world, more, "settled")


async def test_wakeups_alone_carry_a_withdrawal_out(database: Database, tenant: TenantId, valkey: Valkey):
    valkey.start()
    async with working(database, tenant, valkey.url, 3600) as world:
        await heard(valkey)
        made = await world.request(ETH, approve=("alice", "bob"))
        await reach(world, [made], "settled")


async def test_strange_jobs_in_redis_run_no_code_and_stop_nothing(
    database: Database, tenant: TenantId, valkey: Valkey, tmp_path: Path
):
    valkey.start()
    trap = tmp_path / "sprung"
    async with working(database, tenant, valkey.url, 3600) as world:
        await heard(valkey)
        planted = {
            b"pickle": pickle.dumps(
                {"t": 1, "f": "advance_withdrawal", "a": (_Trap(trap),), "k": {}, "et": 1}
            ),
            b"garbage": b"\xff\x00",
            b"nobody": b'{"t":1,"f":"advance_withdrawal","a":[99,"0192f0a8-1c7a-7d10-b5b0-c8e6f7a1d2c3"],"k":{},"et":1}',
            b"arguments": b'{"t":1,"f":"advance_withdrawal","a":["x"],"k":{},"et":1}',
            b"function": b'{"t":1,"f":"os.system","a":["true"],"k":{},"et":1}',
        }
        async with Redis.from_url(valkey.url) as client:
            for name, job in planted.items():
                await client.set(b"arq:job:" + name, job)
                await client.zadd(QUEUE, {name: 1})
        made = await world.request(approve=("alice", "bob"))
        await reach(world, [made], "settled")
    assert not trap.exists()


async def heard(valkey: Valkey) -> None:
    """Wait until a worker listens: it writes its health record when it has begun."""
    async with Redis.from_url(valkey.url) as client:

        async def is_listening() -> bool:
            return bool(await client.exists(f"{QUEUE}:health-check"))

        await until(is_listening)


class _Trap:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (self.path,))  # type: ignore[return-value]  # a trap need not be tidy
