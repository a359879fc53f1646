"""The worker process: carries out withdrawals, lets windows close, hands out wake-ups. `python -m custody.worker`.

Postgres is the truth and a sweep finds all the work there is; arq only makes it quicker. So the sweep runs whether Redis answers,
is empty or is gone, and the arq side comes back by itself when Redis does. One of the two files that know arq.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID

import structlog
from arq.worker import Worker, func
from redis.exceptions import RedisError

from custody import logs
from custody.bootstrap import App, build
from custody.channels import execution as channels
from custody.db.session import Database
from custody.deposits import key_check, key_pool
from custody.deposits.ports import BatchMaker, KeyMaker, KeyVoucher
from custody.events.jetstream import JetStream
from custody.events.loop import RelayLoop
from custody.events.streaming import StreamLoop
from custody.events.trace import traced
from custody.events.wakeup import QUEUE, Waker, dump_job, load_job, redis_settings
from custody.identity.service import list_tenants
from custody.kernel.errors import CustodyError, Unavailable
from custody.kernel.ids import TenantId, WithdrawalId
from custody.ledger import partitions
from custody.ledger import service as ledger
from custody.policy import service as policies
from custody.returns import service as returns
from custody.seals import execution as sealing
from custody.seals.ports import CheckpointSigner
from custody.settings import load
from custody.treasury import execution as treasury
from custody.webhooks import service as webhooks
from custody.webhooks.loop import Dispatcher
from custody.webhooks.sealed import build_box
from custody.webhooks.sender import Sender, SystemResolver
from custody.withdrawals import execution, voids
from custody.withdrawals.ports import Means

_log = structlog.get_logger(__name__)

_POLICY_EVERY_S = 5.0
"""How often the signer is asked which policy is in force."""
_CHANNELS_EVERY_S = 5.0
"""How often it is seen to that channels are there and can pay."""
_SEAL_EVERY_S = 60.0
"""How often what is booked is sealed. Each seal is one entry of the signer's journal."""
_PUBLISH_EVERY = timedelta(hours=1)
"""How much newer a checkpoint is than the one whose liabilities were published last, before they are published again. Each
publication grows a tree over all wallets."""
_FILL_EVERY_S = 2.0
"""How often it is seen to that keys for deposit addresses are ready."""
_CHECK_EVERY_S = 3600.0
"""How often all keys and addresses are held against the signer."""
_PREPARE_EVERY_S = 3600.0
"""How often it is seen to that the months to come have their partitions."""
_REDIS_AGAIN_S = 2.0
"""How long to wait before Redis is tried again."""
_JOB_TIMEOUT_S = 120
_JOBS_AT_ONCE = 16


class KeyWorks(BatchMaker, KeyMaker, Protocol):
    """Makes keys one by one and ahead of need."""


async def run(
    means: Means,
    waker: Waker,
    stop: asyncio.Event,
    checkpoints: CheckpointSigner | None = None,
    keys: KeyWorks | None = None,
    dispatcher: Dispatcher | None = None,
    streamer: StreamLoop | None = None,
) -> None:
    """Work until told to stop, then finish the rounds that are begun. Without `checkpoints` nothing is sealed, without `keys` no
    channel is made, nothing is swept and no deposit addresses are made ready, without a `dispatcher` no webhook is sent, without
    a `streamer` nothing is carried to a broker."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_repeat("policy", _POLICY_EVERY_S, stop, lambda: adopt_policy(means)))
        group.create_task(_repeat("sweep", means.settings.sweep_interval_s, stop, lambda: sweep(means)))
        group.create_task(_repeat("partitions", _PREPARE_EVERY_S, stop, lambda: prepare_partitions(means)))
        group.create_task(RelayLoop(means.db, waker, lambda: _tenants(means.db), webhooks.fan_out).run(stop))
        if keys is not None:
            group.create_task(
                _repeat("channels", _CHANNELS_EVERY_S, stop, lambda: tend_channels(means, keys))
            )
            interval_s = means.settings.treasury.interval_s
            group.create_task(_repeat("treasury", interval_s, stop, lambda: tend_treasury(means, keys)))
        if checkpoints is not None:
            group.create_task(_repeat("seal", _SEAL_EVERY_S, stop, lambda: seal_all(means.db, checkpoints)))
        if keys is not None and any(chain.kind == "evm" for chain in means.settings.chains):
            group.create_task(_repeat("deposit keys", _FILL_EVERY_S, stop, lambda: fill_pools(means, keys)))
            group.create_task(_repeat("key check", _CHECK_EVERY_S, stop, lambda: check_pools(means.db, keys)))
        if dispatcher is not None:
            group.create_task(dispatcher.run(stop))
        if streamer is not None:
            group.create_task(streamer.run(stop))
        group.create_task(_listen(means, stop))


def build_means(app: App) -> Means:
    """What withdrawals are carried out with, from the process's services."""
    return Means(
        db=app.db,
        signer=app.signer,
        clients=app.clients,
        settings=app.settings,
        clock=app.clock,
        screener=app.screener,
    )


def build_dispatcher(app: App) -> Dispatcher | None:
    """What sends webhooks, where they are configured."""
    chosen = app.settings.webhooks
    if chosen is None:
        return None
    sender = Sender(chosen, SystemResolver())
    return Dispatcher(app.db, sender, build_box(chosen), app.clock, chosen.timeout_s)


def build_streamer(app: App) -> StreamLoop | None:
    """What carries events to a broker, where one is configured."""
    chosen = app.settings.event_stream
    if chosen is None:
        return None
    return StreamLoop(
        app.db, JetStream(chosen), chosen.stream, chosen.subject_prefix, lambda: _tenants(app.db)
    )


async def sweep(means: Means) -> None:
    """One look at everything that is due, in every tenant."""
    async with means.db.read(None) as session:
        tenants = await list_tenants(session)
    for tenant in tenants:
        await voids.expire_due(means, tenant, means.clock.now())
        async with means.db.unit_of_work(tenant) as uow:
            await returns.reopen_unpaid(uow)
        async with means.db.unit_of_work(tenant) as uow:
            if expired := await ledger.expire_due(uow, means.clock.now()):
                _log.info("ledger.holds_expired", tenant=tenant, holds=len(expired))
        for failure in await execution.advance_due(means, tenant):
            _log.error(
                "withdrawal.stopped", withdrawal_id=str(failure.withdrawal_id), error=str(failure.error)
            )


async def tend_channels(means: Means, keys: KeyMaker) -> None:
    """See to channels and fee accounts, in every tenant."""
    async with means.db.read(None) as session:
        tenants = await list_tenants(session)
    for tenant in tenants:
        for refill in await channels.tend(means.db, keys, means.settings, means.clock, tenant):
            _log.info("channels.refill", tenant=tenant, withdrawal_id=str(refill))


async def tend_treasury(means: Means, keys: KeyMaker) -> None:
    """See to sweeps, gas, levels and lines, in every tenant."""
    async with means.db.read(None) as session:
        tenants = await list_tenants(session)
    for tenant in tenants:
        for request in await treasury.tend(means, keys, tenant):
            _log.info("treasury.asked", tenant=tenant, withdrawal_id=str(request))


async def seal_all(db: Database, signer: CheckpointSigner) -> None:
    """Seal what every tenant has booked, have it signed, and publish what is owed when that is due.

    One tenant's trouble does not keep the others waiting.
    """
    async with db.read(None) as session:
        tenants = await list_tenants(session)
    for tenant in tenants:
        try:
            made = await sealing.seal_and_sign(db, signer, tenant)
            await sealing.publish_due(db, tenant, _PUBLISH_EVERY)
        except Unavailable as error:
            # What is sealed waits for its signature: the signer is away, or the tenant has no key in it yet.
            _log.warning("seals.waiting", tenant=tenant, error=str(error))
            continue
        except CustodyError as error:
            _log.error("seals.stopped", tenant=tenant, error=str(error))
            continue
        if made:
            _log.info("seals.sealed", tenant=tenant, sequence=made[-1].sequence)


async def fill_pools(means: Means, signer: BatchMaker) -> None:
    """Keys for deposit addresses, in every tenant that runs out. One tenant's trouble does not keep the others waiting."""
    wanted = means.settings.deposit_pool
    async with means.db.read(None) as session:
        tenants = await list_tenants(session)
    for tenant in tenants:
        try:
            while added := await key_pool.refill(
                means.db, signer, tenant, low_water=wanted.low_water, batch_size=wanted.batch_size
            ):
                _log.info("deposit_keys.added", tenant=tenant, keys=added)
        except Unavailable as error:
            _log.warning("deposit_keys.waiting", tenant=tenant, error=str(error))
        except CustodyError as error:
            # Most likely the signer's policy: its rule for such keys is spent, or there is none.
            _log.error("deposit_keys.stopped", tenant=tenant, error=str(error))


async def check_pools(db: Database, signer: KeyVoucher) -> None:
    """Hold every deposit key and address of every tenant against the signer, and page when one is not its own."""
    async with db.read(None) as session:
        tenants = await list_tenants(session)
    for tenant in tenants:
        try:
            found = await key_check.inspect(db, signer, tenant)
        except CustodyError as error:
            _log.warning("deposit_keys.unchecked", tenant=tenant, error=str(error))
            continue
        if found.foreign or found.misdirected:
            _log.error(
                "deposit_keys.not_ours", tenant=tenant, foreign=found.foreign, misdirected=found.misdirected
            )


async def prepare_partitions(means: Means) -> None:
    """A partition of the ledger's history for every month that comes soon."""
    async with means.db.unit_of_work(None) as uow:
        made = await partitions.prepare(uow, means.clock.now())
    if made:
        _log.info("ledger.partitions_prepared", made=made)


async def _tenants(db: Database) -> list[TenantId]:
    async with db.read(None) as session:
        return await list_tenants(session)


async def adopt_policy(means: Means) -> None:
    """Take over the policy that the signer enforces."""
    policy = await means.signer.get_policy()
    async with means.db.unit_of_work(None) as uow:
        if await policies.adopt(uow, policy):
            _log.info("policy.adopted", version=policy.version, policy_hash=policy.policy_hash)


async def advance_withdrawal(
    ctx: dict[Any, Any], tenant: int, withdrawal_id: str, trace_id: str | None = None
) -> str:
    """arq job: take the withdrawal's next steps. The arguments are ids; everything else is read from Postgres."""
    means: Means = ctx["means"]
    with traced(trace_id):
        try:
            return await execution.advance(means, TenantId(tenant), WithdrawalId(UUID(withdrawal_id)))
        except CustodyError as error:
            # Left to the sweep, which comes by again and reports.
            _log.warning("withdrawal.stopped", withdrawal_id=withdrawal_id, error=str(error))
            return "stopped"


async def _listen(means: Means, stop: asyncio.Event) -> None:
    """Serve wake-ups for as long as Redis is there, and wait for it when it is not."""
    while not stop.is_set():
        worker = Worker(
            functions=[func(advance_withdrawal, timeout=_JOB_TIMEOUT_S, max_tries=1, keep_result=0)],
            redis_settings=redis_settings(means.settings.redis.url.get_secret_value()),
            queue_name=QUEUE,
            ctx={"means": means},
            handle_signals=False,
            max_jobs=_JOBS_AT_ONCE,
            poll_delay=0.1,
            job_serializer=dump_job,
            job_deserializer=load_job,
        )
        running = asyncio.create_task(worker.async_run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        except (RedisError, OSError, TimeoutError) as error:
            _log.warning("redis.lost", reason=type(error).__name__)
        finally:
            stopping.cancel()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError, RedisError, OSError):
                await running
            with contextlib.suppress(asyncio.CancelledError, RedisError, OSError):
                await worker.close()
        await _pause(stop, _REDIS_AGAIN_S)


async def _repeat(
    name: str, interval_s: float, stop: asyncio.Event, step: Callable[[], Awaitable[None]]
) -> None:
    """Do `step` again and again. An error is reported and ends one round, never the process."""
    while not stop.is_set():
        try:
            await step()
        except CustodyError as error:
            _log.warning("worker.round_failed", loop=name, error=str(error))
        except Exception:  # noqa: BLE001 (the process loop: the next round starts from Postgres again)
            _log.exception("worker.round_failed", loop=name)
        await _pause(stop, interval_s)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


async def _main() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = build(load())
    try:
        await run(
            build_means(app),
            app.waker,
            stop,
            app.signer,
            app.signer,
            build_dispatcher(app),
            build_streamer(app),
        )
    finally:
        await app.aclose()


def main() -> None:
    """Entry of the process."""
    logs.configure("worker")
    asyncio.run(_main())


if __name__ == "__main__":
    main()
