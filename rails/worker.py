"""The process that speaks to rails: `python -m rails.worker`.

Each round, for each tenant: send what is ready, give up on sendings whose worker died, ask about what is open. Any number of
these processes may run side by side. Killed at any moment it leaves nothing that another round does not find again: our reference
is committed before anything is sent, and an order of unknown fate is asked about by it, never sent under another.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from dataclasses import dataclass
from datetime import timedelta

import structlog

from custody import logs
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.clock import Clock, SystemClock
from custody.kernel.ids import TenantId
from custody.payouts import service as payouts
from custody.payouts.model import PayoutAttempt, PollTarget
from custody.settings import load
from rails.base import Absent, Found, Unanswered
from rails.registry import RailRegistry, build_rails

_log = structlog.get_logger(__name__)

_LEASE_MARGIN = timedelta(seconds=5)
"""A sending is given up for lost this long after its time limit: too soon costs a question, never a second payment."""
_BATCH = 50
"""How many payouts of one tenant a round takes, so that no tenant waits for another's queue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One round's work, and what it needs."""

    db: Database
    rails: RailRegistry
    clock: Clock
    lease: timedelta
    """How long a sending may take before it is given up for lost."""

    async def round(self) -> int:
        """Serve every tenant once. Returns how many payouts were sent or asked about."""
        async with self.db.read(None) as session:
            tenants = await identity.list_tenants(session)
        done = 0
        for tenant in tenants:
            done += await self.send_ready(tenant)
            await self.lose_expired(tenant)
            done += await self.poll_due(tenant)
        return done

    async def send_ready(self, tenant: TenantId) -> int:
        """Claim and send ready payouts, one after the other. Returns how many."""
        for sent in range(_BATCH):
            async with self.db.unit_of_work(tenant) as uow:
                attempt = await payouts.claim(uow, self.rails.ids, self.clock.now(), self.lease)
            if attempt is None:
                return sent
            await self.send(tenant, attempt)
        return _BATCH

    async def send(self, tenant: TenantId, attempt: PayoutAttempt) -> None:
        """Hand one claimed payout to its rail and write down how that ended."""
        report = await self.rails.get(attempt.instruction.rail).submit(attempt.instruction)
        async with self.db.unit_of_work(tenant) as uow:
            payout = await payouts.record_submission(uow, attempt, report, self.clock.now())
        _log.info(
            "payout.sent",
            tenant=tenant,
            payout_id=str(payout.id),
            attempt=attempt.number,
            report=type(report).__name__.lower(),
            state=payout.state,
        )

    async def lose_expired(self, tenant: TenantId) -> None:
        """Payouts whose worker died between claim and record become unknown, and are asked about next."""
        async with self.db.unit_of_work(tenant) as uow:
            lost = await payouts.lose_expired(uow, self.clock.now())
        if lost:
            _log.warning("payout.lease_expired", tenant=tenant, count=lost)

    async def poll_due(self, tenant: TenantId) -> int:
        """Ask about every open payout whose next question is due. Returns how many."""
        async with self.db.read(tenant) as session:
            due = await payouts.due_for_poll(session, self.rails.ids, self.clock.now(), _BATCH)
        for target in due:
            await self._poll(tenant, target)
        return len(due)

    async def _poll(self, tenant: TenantId, target: PollTarget) -> None:
        answer = await self.rails.get(target.rail).status(target.reference)
        async with self.db.unit_of_work(tenant) as uow:
            await payouts.record_poll(uow, target.payout_id, self.clock.now())
        match answer:
            case Found(observations=observations):
                for observation in observations:
                    async with self.db.unit_of_work(tenant) as uow:
                        await payouts.observe(uow, observation, self.clock.now())
            case Absent():
                await self._resend(tenant, target)
            case Unanswered(cause=cause):
                _log.warning("payout.unanswered", tenant=tenant, payout_id=str(target.payout_id), cause=cause)

    async def _resend(self, tenant: TenantId, target: PollTarget) -> None:
        """The rail never took the order: send the same one again, under the same reference."""
        async with self.db.unit_of_work(tenant) as uow:
            attempt = await payouts.claim_resend(uow, target.payout_id, self.clock.now(), self.lease)
        if attempt is None:
            _log.error("payout.denied_by_rail", tenant=tenant, payout_id=str(target.payout_id))
            return
        await self.send(tenant, attempt)


async def run(worker: Worker, interval_s: float, stop: asyncio.Event) -> None:
    """Rounds until `stop`, at once while there is work, else after a pause with jitter; longer after each failed round."""
    failures = 0
    while not stop.is_set():
        busy = False
        try:
            busy = await worker.round() > 0
            failures = 0
        except Exception:  # noqa: BLE001 (the process loop: a failed round is told and tried again)
            failures += 1
            _log.exception("rails.round_failed", failures=failures)
        if busy:
            continue
        pause = min(interval_s * 2 ** min(failures, 6), 60.0) * random.uniform(0.8, 1.2)  # noqa: S311 (jitter)
        try:
            await asyncio.wait_for(stop.wait(), pause)
        except TimeoutError:
            continue


async def main() -> int:
    """Serve until SIGTERM or SIGINT, finishing the round under way."""
    settings = load()
    logs.configure("rails")
    db = Database(settings.database.url.get_secret_value(), pool_size=settings.database.pool_size)
    rails = build_rails(settings.rails)
    slowest = max((rail.timeout_s for rail in settings.rails.values()), default=0)
    worker = Worker(db=db, rails=rails, clock=SystemClock(), lease=timedelta(seconds=slowest) + _LEASE_MARGIN)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    _log.info("rails.started", rails=rails.ids)
    try:
        await run(worker, settings.sweep_interval_s, stop)
    finally:
        await rails.aclose()
        await db.close()
    _log.info("rails.stopped")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
