"""The loop that relays events: every tenant in turn, and sooner those of whom something was just committed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from custody.db.session import Database
from custody.db.signals import EMITTED, Ear
from custody.events.relay import BATCH, Listener, relay
from custody.events.wakeup import Waker
from custody.kernel.errors import CustodyError
from custody.kernel.ids import TenantId

_EVERY_S = 0.2
"""How often all tenants are looked at, whatever is heard."""
_GATHER_S = 0.005
"""How long what is heard is gathered: under load one transaction places many events instead of one each."""

_log = structlog.get_logger(__name__)


class RelayLoop:
    """Relays until told to stop. Any number of processes may."""

    def __init__(
        self,
        db: Database,
        waker: Waker,
        tenants: Callable[[], Awaitable[Collection[TenantId]]],
        listener: Listener,
    ) -> None:
        """`tenants`: all there are now. `listener`: see `relay`."""
        self._db = db
        self._waker = waker
        self._tenants = tenants
        self._listener = listener

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until told to stop."""
        ear = Ear(self._db.url, EMITTED)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(ear.run())
            waiting = group.create_task(_nudge(ear, stop))
            while not stop.is_set():
                await self._round(await self._safely_all())
                turn = loop.time() + _EVERY_S
                while not stop.is_set() and (left := turn - loop.time()) > 0:
                    if heard := await ear.wait(left):
                        await asyncio.sleep(_GATHER_S)
                        await self._round(heard | ear.heard())
            listening.cancel()
            waiting.cancel()

    async def _round(self, tenants: Collection[TenantId]) -> None:
        """One tenant's trouble does not keep the others waiting."""
        for tenant in tenants:
            try:
                while await relay(self._db, self._waker, tenant, self._listener) == BATCH:
                    pass
            except CustodyError as error:
                _log.warning("worker.round_failed", loop="relay", error=str(error))
            except Exception:  # noqa: BLE001 (the process loop: the next round starts from Postgres again)
                _log.exception("worker.round_failed", loop="relay")

    async def _safely_all(self) -> Collection[TenantId]:
        try:
            return await self._tenants()
        except Exception:  # noqa: BLE001 (the process loop: the next round starts from Postgres again)
            _log.exception("worker.round_failed", loop="relay")
            return ()


async def _nudge(ear: Ear, stop: asyncio.Event) -> None:
    await stop.wait()
    ear.nudge()
