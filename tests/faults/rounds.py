"""One round per kind of disturbance: a fresh tenant, a load drawn from the seed, the disturbance in its middle, the verdict.

A seed chooses the load and the moments again, counted in answers; how the clients interleave is the scheduler's.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from custody.db.session import Database
from custody.kernel.ids import TenantId
from tests.faults.cluster import DurableCluster
from tests.faults.doors import BatchDoor, ProcessDoor, SingleDoor, running
from tests.faults.drive import Journal, drive
from tests.faults.plan import Plan, draw_plan, prepare
from tests.faults.proxy import Proxy
from tests.faults.verdict import troubles_of

CLIENTS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a round came to."""

    kills: int
    """How often something was killed or cut."""
    before: int
    """Chains that had been answered when it happened for the first time."""
    acknowledged: int
    """Chains that were answered in all."""
    unanswered: int
    """Calls that broke off and were made again by their client. A batcher's own repetitions are not counted."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a round works with."""

    seed: int
    database: Database
    tenant: TenantId
    plan: Plan
    journal: Journal
    chance: random.Random

    async def moment(self, share_min: float, share_max: float) -> None:
        """Return when a drawn share of the plan has been answered, and a drawn blink later."""
        chains = sum(len(client) for client in self.plan.clients)
        answers = int(chains * self.chance.uniform(share_min, share_max))
        await self.journal.reached(answers)
        await asyncio.sleep(self.chance.uniform(0, 0.02))


@asynccontextmanager
async def scene(dsn: str, seed: int, length: int, app_dsn: str | None = None) -> AsyncIterator[Scene]:
    """A prepared tenant and a plan; at the end the verdict. `app_dsn` is how the clients get there, if not directly.

    Raises AssertionError that names the seed and every trouble found."""
    with tempfile.TemporaryDirectory(prefix="custody-faults-") as folder:
        journal = Journal(Path(folder) / "journal.jsonl")
        direct = Database(dsn)
        clients = Database(app_dsn or dsn, pool_size=20)
        try:
            tenant = await prepare(direct, f"seed {seed}")
            plan = draw_plan(seed, CLIENTS, length)
            yield Scene(seed, clients, tenant, plan, journal, random.Random(seed))
            troubles = await troubles_of(direct, tenant, plan, journal)
            if len(journal.told) != sum(len(client) for client in plan.clients):
                troubles.append("not everything was answered")
            if troubles:
                kept = Path(tempfile.mkdtemp(prefix="custody-faults-failed-")) / "journal.jsonl"
                (Path(folder) / "journal.jsonl").rename(kept)
                raise AssertionError(
                    f"seed {seed}, the clients' journal is {kept}:\n" + "\n".join(troubles[:20])
                )
        finally:
            journal.close()
            await clients.close()
            await direct.close()


async def kill_postgres(cluster: DurableCluster, seed: int, length: int = 25) -> Figures:
    """The database dies in mid-load, head and backends at once, and is started again."""
    async with scene(cluster.app_dsn, seed, length) as at:
        doors = [BatchDoor(cluster.app_dsn), BatchDoor(cluster.app_dsn)]
        before: list[int] = []

        async def killer() -> None:
            await at.moment(0.1, 0.7)
            before.append(len(at.journal.told))
            await asyncio.to_thread(cluster.kill)
            await asyncio.to_thread(cluster.start)

        async with running(*doors):
            await _together(drive([*doors, SingleDoor(at.database)], at.tenant, at.plan, at.journal), killer)
    return _figures(at, 1, before[0])


async def kill_service(cluster: DurableCluster, seed: int, length: int = 25) -> Figures:
    """The process that gathers batches dies in mid-load, twice; another one takes its place each time."""
    async with scene(cluster.app_dsn, seed, length) as at:
        door = ProcessDoor(cluster.app_dsn)
        before: list[int] = []

        async def killer() -> None:
            for share in (0.05, 0.5):
                await at.moment(share, share + 0.3)
                before.append(len(at.journal.told))
                await door.kill()
                await door.start()

        await door.start()
        await _together(drive([door, door, SingleDoor(at.database)], at.tenant, at.plan, at.journal), killer)
        await door.kill()
    return _figures(at, 2, before[0])


async def hostile_network(cluster: DurableCluster, seed: int, length: int = 25) -> Figures:
    """Lines are cut, delayed and lose what was under way, in both directions, at any piece."""
    async with Proxy(cluster.app_dsn, seed) as proxy, scene(cluster.app_dsn, seed, length, proxy.dsn) as at:
        doors = [BatchDoor(proxy.dsn), BatchDoor(proxy.dsn)]
        proxy.trouble = 0.04
        async with running(*doors):
            await drive([*doors, SingleDoor(at.database)], at.tenant, at.plan, at.journal)
        proxy.trouble = 0.0
    return _figures(at, proxy.struck.total(), 0)


ROUNDS: dict[str, Callable[[DurableCluster, int], Awaitable[Figures]]] = {
    "postgres": kill_postgres,
    "service": kill_service,
    "network": hostile_network,
}


async def _together(work: Awaitable[None], disturbance: Callable[[], Awaitable[None]]) -> None:
    """Both to their ends; the failure of one ends the other."""

    async def worked() -> None:
        await work

    async def disturbed() -> None:
        await disturbance()

    async with asyncio.TaskGroup() as group:
        group.create_task(worked())
        group.create_task(disturbed())


def _figures(at: Scene, kills: int, before: int) -> Figures:
    return Figures(
        kills=kills, before=before, acknowledged=len(at.journal.told), unanswered=at.journal.unanswered
    )
