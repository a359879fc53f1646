"""The rails worker against the sandbox bank over HTTP: every fault, and a crash between every two steps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.clock import FixedClock
from custody.kernel.ids import TenantId
from custody.payouts import service as payouts
from custody.payouts.model import Payout, PayoutAttempt, RailEvent
from custody.receipts import service as receipts
from devnet.bank.ibans import (
    GARBLED,
    NEVER_TOLD,
    NORMAL,
    OUTAGE_FIRST,
    REFUSED,
    REJECTED_LATER,
    RETURNED,
    STALLED,
    TOLD_OUT_OF_ORDER,
    TOLD_TWICE,
)
from rails import intake
from rails.base import Rail
from rails.registry import RailRegistry
from rails.sandbox.adapter import SandboxRail
from rails.worker import Worker, run
from tests.fakes.bank_process import SECRET, BankProcess, CallbackListener, free_port
from tests.fakes.fiat import Fiat, make_fiat

LEASE = timedelta(seconds=20)
FLOAT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A tenant, its bank, and a worker whose clock the test moves."""

    fiat: Fiat
    bank: BankProcess
    listener: CallbackListener
    rail: Rail
    worker: Worker
    clock: FixedClock

    async def take_callbacks(self, number: int) -> None:
        """Wait for so many payment callbacks and take all deliveries in, as the API does."""
        await self.listener.wait_for(number + 1)
        for headers, body in list(self.listener.received):
            await intake.apply(self.fiat.database, self.clock, self.rail.parse_callback(headers, body))

    async def work_until(self, payout: Payout, *states: str) -> Payout:
        """Rounds, with time passing between them, until the payout is in one of these states."""
        while True:
            await self.worker.round()
            found = await self.fiat.get(payout.id)
            if found.state in states:
                return found
            self.clock.advance(30)
            await asyncio.sleep(0.05)

    async def claim(self) -> PayoutAttempt:
        """What a worker does before it sends."""
        async with self.fiat.database.unit_of_work(self.fiat.tenant) as uow:
            attempt = await payouts.claim(uow, ("sandbox",), self.clock.now(), LEASE)
        assert attempt is not None
        return attempt

    async def payments_at_bank(self) -> list[int]:
        """What the bank has booked on our account besides the float."""
        today = datetime.now(UTC).date()
        statement = await self.rail.statement(
            self.fiat.account.iban, today - timedelta(days=1), today + timedelta(days=1)
        )
        return [entry.amount for entry in statement.entries[1:]]


@pytest.fixture
async def scene(database: Database, tenant: TenantId, tmp_path: Path) -> AsyncIterator[Scene]:
    listener = CallbackListener(free_port())
    await listener.start()
    bank = BankProcess(tmp_path, listener.url)
    await bank.start()
    fiat = await make_fiat(database, tenant)
    rail = SandboxRail("sandbox", base_url=bank.url, callback_secret=SECRET, timeout_s=0.6)
    clock = FixedClock(datetime.now(UTC))
    worker = Worker(db=database, rails=RailRegistry({"sandbox": rail}), clock=clock, lease=LEASE)
    made = Scene(fiat=fiat, bank=bank, listener=listener, rail=rail, worker=worker, clock=clock)
    async with database.unit_of_work(tenant) as uow:
        reference = await receipts.reference_for(uow, fiat.wallet_id)
    await bank.pay_in(FLOAT, f"float {reference}")
    await made.take_callbacks(0)
    yield made
    await rail.aclose()
    await bank.kill()
    await listener.stop()


async def test_money_paid_in_at_the_bank_is_credited_to_the_wallet(scene: Scene) -> None:
    assert await scene.fiat.books() == {
        "wallet": FLOAT, "available": FLOAT, "bank": FLOAT, "suspense": 0, "trial": 0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ending", "callbacks", "state", "reason", "left"),
    [
        (NORMAL, 1, "settled", "", 2_500),
        (REJECTED_LATER, 1, "rejected", "AG01", 0),
        (RETURNED, 2, "returned", "AC04", 0),
        (TOLD_TWICE, 2, "settled", "", 2_500),
        (TOLD_OUT_OF_ORDER, 2, "returned", "AC04", 0),
    ],
)
async def test_callbacks_alone_bring_a_payout_to_its_end(
    scene: Scene, ending: int, callbacks: int, state: str, reason: str, left: int
) -> None:
    payout = await scene.fiat.request(2_500, ending)
    assert await scene.worker.send_ready(scene.fiat.tenant) == 1
    await scene.take_callbacks(callbacks)
    found = await scene.fiat.get(payout.id)
    assert (found.state, found.reason) == (state, reason)
    kept = FLOAT - left
    assert await scene.fiat.books() == {
        "wallet": kept, "available": kept, "bank": kept, "suspense": 0, "trial": 0
    }  # fmt: skip
    assert FLOAT + sum(await scene.payments_at_bank()) == kept


@pytest.mark.parametrize(
    ("ending", "state", "booked"),
    [
        (NORMAL, "settled", [-2_500]),
        (REFUSED, "rejected", []),
        (STALLED, "settled", [-2_500]),
        (NEVER_TOLD, "settled", [-2_500]),
        (OUTAGE_FIRST, "settled", [-2_500]),
    ],
)
async def test_questions_alone_bring_a_payout_to_its_end(
    scene: Scene, ending: int, state: str, booked: list[int]
) -> None:
    payout = await scene.fiat.request(2_500, ending)
    await scene.work_until(payout, state)
    assert await scene.payments_at_bank() == booked
    kept = FLOAT + sum(booked)
    assert await scene.fiat.books() == {
        "wallet": kept, "available": kept, "bank": kept, "suspense": 0, "trial": 0
    }  # fmt: skip


async def test_an_answer_that_comes_too_late_leaves_the_payout_unknown_and_held(scene: Scene) -> None:
    payout = await scene.fiat.request(2_500, STALLED)
    await scene.worker.send_ready(scene.fiat.tenant)
    assert (await scene.fiat.get(payout.id)).state == "unknown"
    assert (await scene.fiat.books())["available"] == FLOAT - 2_500


async def test_an_echo_that_differs_keeps_the_hold(scene: Scene) -> None:
    payout = await scene.fiat.request(2_500, GARBLED)
    await scene.worker.send_ready(scene.fiat.tenant)
    found = await scene.fiat.get(payout.id)
    assert (found.state, found.reason) == ("integrity_failed", "amount")
    assert (await scene.fiat.books())["available"] == FLOAT - 2_500


async def test_a_worker_killed_after_its_claim_is_replaced_and_pays_once(scene: Scene) -> None:
    payout = await scene.fiat.request(2_500)
    await scene.claim()
    await scene.worker.round()
    assert (await scene.fiat.get(payout.id)).state == "submitting"
    scene.clock.advance(21)
    await scene.work_until(payout, "settled")
    assert await scene.payments_at_bank() == [-2_500]


async def test_a_worker_killed_after_sending_is_replaced_and_pays_once(scene: Scene) -> None:
    payout = await scene.fiat.request(2_500)
    attempt = await scene.claim()
    await scene.rail.submit(attempt.instruction)
    scene.clock.advance(21)
    await scene.work_until(payout, "settled")
    assert await scene.payments_at_bank() == [-2_500]


async def test_a_worker_that_was_only_slow_does_no_harm(scene: Scene) -> None:
    payout = await scene.fiat.request(2_500)
    attempt = await scene.claim()
    scene.clock.advance(21)
    await scene.work_until(payout, "settled")
    await scene.worker.send(scene.fiat.tenant, attempt)
    assert (await scene.fiat.get(payout.id)).state == "settled"
    assert await scene.payments_at_bank() == [-2_500]


async def test_a_callback_that_overtakes_the_answer_is_kept(scene: Scene) -> None:
    payout = await scene.fiat.request(2_500)
    attempt = await scene.claim()
    report = await scene.rail.submit(attempt.instruction)
    await scene.take_callbacks(1)
    async with scene.fiat.database.unit_of_work(scene.fiat.tenant) as uow:
        found = await payouts.record_submission(uow, attempt, report, scene.clock.now())
    assert found.state == (await scene.fiat.get(payout.id)).state == "settled"


async def test_the_bank_killed_in_between_changes_nothing_in_the_end(scene: Scene) -> None:
    first, second = await scene.fiat.request(2_500, NEVER_TOLD), await scene.fiat.request(1_000)
    await scene.worker.send_ready(scene.fiat.tenant)
    await scene.bank.kill()
    third = await scene.fiat.request(300)
    await scene.worker.round()
    assert (await scene.fiat.get(third.id)).state == "unknown"
    await scene.bank.start()
    for payout in (first, second, third):
        await scene.work_until(payout, "settled")
    assert sorted(await scene.payments_at_bank()) == [-2_500, -1_000, -300]


async def test_several_workers_send_each_payout_once(scene: Scene) -> None:
    requested = [await scene.fiat.request(100 + n) for n in range(6)]
    await asyncio.gather(*(scene.worker.send_ready(scene.fiat.tenant) for _ in range(3)))
    for payout in requested:
        await scene.work_until(payout, "settled")
    assert sorted(await scene.payments_at_bank()) == sorted(-100 - n for n in range(6))


async def test_expiring_leases_and_callbacks_at_one_moment_do_not_block_each_other(scene: Scene) -> None:
    requested = [await scene.fiat.request(100 + n) for n in range(8)]
    for _ in requested:
        await scene.claim()
    scene.clock.advance(21)
    news = [scene.fiat.news(payout, RailEvent.SETTLED) for payout in reversed(requested)]
    await asyncio.gather(
        *(intake.apply(scene.fiat.database, scene.clock, [fact]) for fact in news),
        *(scene.worker.lose_expired(scene.fiat.tenant) for _ in range(4)),
    )
    states = {(await scene.fiat.get(payout.id)).state for payout in requested}
    assert states == {"settled"}
    assert (await scene.fiat.books())["trial"] == 0


async def test_every_tenant_is_served_and_the_loop_stops_when_told(scene: Scene, database: Database) -> None:
    async with database.unit_of_work(None) as uow:
        await identity.create_tenant(uow, "idle")
    payout = await scene.fiat.request(2_500)
    stop = asyncio.Event()
    task = asyncio.create_task(run(scene.worker, 0.01, stop))
    await scene.listener.wait_for(2)
    stop.set()
    await task
    assert (await scene.fiat.get(payout.id)).state != "ready"
