"""The loop that sends deliveries: finds endpoints that are due, claims a few of each, sends them side by side.

Bounded three times, so that a slow receiver costs itself time and nobody else: so many at once in all, of one tenant, of one
endpoint. Any number of processes may run it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from datetime import timedelta
from uuid import UUID

import structlog

from custody.db.session import Database
from custody.identity.service import list_tenants
from custody.kernel.clock import Clock
from custody.kernel.ids import TenantId
from custody.webhooks import execution
from custody.webhooks.model import Claimed
from custody.webhooks.sealed import SecretBox
from custody.webhooks.sender import Sender

AT_ONCE = 64
AT_ONCE_OF_TENANT = 16
AT_ONCE_OF_ENDPOINT = 4
_PAUSE_S = 0.2
"""How long to wait when nothing is due."""
_LEASE_MARGIN_S = 20
"""A sending is given up for lost this long after its time limit: too soon costs a second copy."""

_log = structlog.get_logger(__name__)


class Dispatcher:
    """Sends whatever is due, in every tenant."""

    def __init__(self, db: Database, sender: Sender, box: SecretBox, clock: Clock, timeout_s: int) -> None:
        """`timeout_s` is the sender's: a lease outlasts it."""
        self._db = db
        self._sender = sender
        self._box = box
        self._clock = clock
        self._lease = timedelta(seconds=timeout_s + _LEASE_MARGIN_S)
        self._of_tenant: Counter[TenantId] = Counter()
        self._of_endpoint: Counter[UUID] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Send until told to stop, then wait for what is on its way."""
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                begun = 0
                try:
                    begun = await self.round(group)
                except Exception:  # noqa: BLE001 (the process loop: the next round starts from Postgres again)
                    _log.exception("webhook.round_failed")
                if begun == 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_PAUSE_S):
                            await stop.wait()

    async def round(self, group: asyncio.TaskGroup) -> int:
        """One look at every tenant, in an order that changes; begins sendings in `group`. Returns how many."""
        async with self._db.read(None) as session:
            tenants = await list_tenants(session)
        random.shuffle(tenants)
        return sum([await self._serve(tenant, group) for tenant in tenants])

    async def _serve(self, tenant: TenantId, group: asyncio.TaskGroup) -> int:
        now = self._clock.now()
        due, expired = await execution.look(self._db, tenant, now)
        await execution.lose(self._db, tenant, expired, now)
        random.shuffle(due)
        begun = 0
        for endpoint_id in due:
            room = min(
                AT_ONCE - self._of_tenant.total(),
                AT_ONCE_OF_TENANT - self._of_tenant[tenant],
                AT_ONCE_OF_ENDPOINT - self._of_endpoint[endpoint_id],
            )
            if room <= 0:
                continue
            claimed = await execution.claim_due(
                self._db, tenant, endpoint_id, now=now, lease=self._lease, limit=room
            )
            for each in claimed:
                self._of_tenant[tenant] += 1
                self._of_endpoint[endpoint_id] += 1
                group.create_task(self._deliver(each))
            begun += len(claimed)
        return begun

    async def _deliver(self, claimed: Claimed) -> None:
        try:
            answer = await execution.send(self._sender, self._box, claimed, self._clock.now())
            await execution.record(self._db, claimed, answer, self._clock.now())
            _log.info(
                "webhook.sent",
                tenant=int(claimed.tenant),
                delivery_id=str(claimed.delivery_id),
                attempt=claimed.number,
                outcome=answer.outcome.value,
                status=answer.status,
                reason=answer.error,
                elapsed_ms=answer.elapsed_ms,
            )
        except Exception:  # noqa: BLE001 (one sending of the process loop: its lease ends, and it is made again)
            _log.exception("webhook.sending_failed", delivery_id=str(claimed.delivery_id))
        finally:
            self._of_tenant[claimed.tenant] -= 1
            self._of_endpoint[claimed.endpoint_id] -= 1
