"""Beside the requests: write down when keys were last used, and let go of what has long expired."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from custody.db.session import Database
from custody.identity import service, store
from custody.identity.model import Principal
from custody.kernel.ids import TenantId

EVERY_S = 60.0
"""How often uses are written: `last_used_at` is right to about this."""
PRUNE_EVERY = 60
"""Rounds between two looks for what has expired."""

_log = structlog.get_logger(__name__)


class Upkeep:
    """Gathers what requests use and writes it once in a while, in transactions of its own."""

    def __init__(self, db: Database, now: Callable[[], datetime]) -> None:
        """Nothing is written before `run` or `flush`."""
        self._db = db
        self._now = now
        self._used: defaultdict[TenantId, set[UUID]] = defaultdict(set)
        self._stopped = asyncio.Event()

    def note(self, principal: Principal) -> None:
        """A key was used. Cheap: a set, bounded by how many keys there are."""
        if principal.credential is not None:
            self._used[principal.tenant].add(principal.credential)

    async def run(self) -> None:
        """Write once a minute until told to stop, and then once more."""
        rounds = 0
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._stopped.wait()
            try:
                await self.flush()
                if rounds % PRUNE_EVERY == 0:
                    await self.prune()
            except (SQLAlchemyError, OSError) as error:
                _log.warning("identity.upkeep_failed", reason=type(error).__name__)
            rounds += 1

    def stop(self) -> None:
        """End after one more round."""
        self._stopped.set()

    async def flush(self) -> None:
        """Write down what was used since the last time. What cannot be written is noted again by the next use."""
        used, self._used = self._used, defaultdict(set)
        for tenant, keys in used.items():
            async with self._db.unit_of_work(tenant) as uow:
                await store.mark_used(uow, keys, self._now())

    async def prune(self) -> None:
        """Let go of expired tokens, assertions and step-ups, tenant by tenant."""
        async with self._db.read(None) as session:
            tenants = await service.list_tenants(session)
        for tenant in tenants:
            async with self._db.unit_of_work(tenant) as uow:
                await store.prune(uow)
