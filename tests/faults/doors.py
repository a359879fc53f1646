"""The ways into the ledger that a caller has: a batcher in this process, a transaction of one's own, a batcher elsewhere."""

from __future__ import annotations

import asyncio
import pickle
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import asyncpg
from sqlalchemy.exc import DBAPIError

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.ledger import service
from custody.ledger.channel import connect
from custody.ledger.model import Command, Outcome
from custody.ledger.poster import Bounds, Poster

ROOT = Path(__file__).parent.parent.parent


class Unanswered(Exception):
    """The call broke off. What became of it is not known; the same ids may be given again."""


class Door(Protocol):
    """Where a client posts one chain and gets its outcomes."""

    async def submit(self, tenant: TenantId, chain: Sequence[Command]) -> tuple[Outcome, ...]:
        """The chain's outcomes. Raises Unanswered."""
        ...


async def pause(_: int) -> None:
    """Between attempts to reach a server that may be about to start."""
    await asyncio.sleep(0.02)


class BatchDoor:
    """A batcher of its own, which repeats by itself until it knows."""

    def __init__(self, dsn: str, batch: int = 40) -> None:
        """`run` must be running for anything to be answered."""
        self.poster = Poster(lambda: connect(dsn, timeout_s=20), pause, Bounds(batch=batch))

    async def submit(self, tenant: TenantId, chain: Sequence[Command]) -> tuple[Outcome, ...]:
        """See Door.submit."""
        return await self.poster.submit(tenant, *chain)


class SingleDoor:
    """One transaction per chain. LedgerBusy is not caught: a single call must never meet it."""

    def __init__(self, database: Database) -> None:
        """The pool is not this door's own."""
        self._database = database

    async def submit(self, tenant: TenantId, chain: Sequence[Command]) -> tuple[Outcome, ...]:
        """See Door.submit."""
        try:
            async with self._database.unit_of_work(tenant) as uow:
                return tuple(await service.submit(uow, [chain]))
        except (DBAPIError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if isinstance(error, DBAPIError) and not error.connection_invalidated and not _ended(error):
                raise
            raise Unanswered from error


def _ended(error: DBAPIError) -> bool:
    """Whether the server ended the session or the statement (class 57), or the line broke (08), instead of failing."""
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state[:2] in ("57", "08")


class ProcessDoor:
    """A service process that posts for us (service_process.py), killed and started again by the test."""

    def __init__(self, dsn: str) -> None:
        """Nothing runs yet."""
        self._dsn = dsn
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[tuple[Outcome, ...]]] = {}
        self._asked = 0

    async def start(self) -> None:
        """A fresh process."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.faults.service_process", self._dsn),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        self._reader = asyncio.create_task(self._listen(self._process))

    async def kill(self) -> None:
        """SIGKILL. Everybody who waits is told that the outcome is not known."""
        if self._process is None or self._reader is None:
            raise AssertionError("no process runs")
        self._process.kill()
        await self._reader
        await self._process.wait()

    async def submit(self, tenant: TenantId, chain: Sequence[Command]) -> tuple[Outcome, ...]:
        """See Door.submit."""
        pipe = None if self._process is None else self._process.stdin
        if pipe is None or pipe.is_closing() or self._reader is None or self._reader.done():
            await pause(0)
            raise Unanswered
        self._asked += 1
        number = self._asked
        answer: asyncio.Future[tuple[Outcome, ...]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        pipe.write(framed((number, tenant, tuple(chain))))
        return await answer

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is None:
            raise AssertionError("the process has no output pipe")
        try:
            while True:
                size = int.from_bytes(await process.stdout.readexactly(4), "big")
                number, outcomes = pickle.loads(await process.stdout.readexactly(size))
                self._waiting.pop(number).set_result(outcomes)
        except asyncio.IncompleteReadError:
            waiting, self._waiting = self._waiting, {}
            for answer in waiting.values():
                if not answer.done():
                    answer.set_exception(Unanswered())


def framed(message: object) -> bytes:
    """A message with its length in front."""
    body = pickle.dumps(message)
    return len(body).to_bytes(4, "big") + body


@asynccontextmanager
async def running(*doors: BatchDoor) -> AsyncIterator[None]:
    """The batchers post while the block runs, and answer what waits at its end."""
    async with asyncio.TaskGroup() as group:
        for door in doors:
            group.create_task(door.poster.run())
        try:
            yield
        finally:
            for door in doors:
                door.poster.stop()
