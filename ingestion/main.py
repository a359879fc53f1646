"""The ingestion worker of one chain: `python -m ingestion.main --chain stellar:devnet`.

Ends with 0 when it was told to, 1 when an invariant is broken (the sentence names it), 2 when it cannot start.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import assert_never

import structlog
from sqlalchemy.exc import DBAPIError

from custody import logs
from custody.db.session import Database
from custody.kernel.assetid import ChainId, parse_chain_id
from custody.kernel.clock import SystemClock
from custody.kernel.errors import CustodyError, InvariantViolated, Unavailable
from custody.settings import ChainSettings, load
from ingestion import cursor, halting
from ingestion.backfill.queue import filling
from ingestion.backoff import backoff
from ingestion.errors import FenceLost
from ingestion.evm import worker as evm
from ingestion.evm.heads import hearing
from ingestion.finality import terms_of
from ingestion.health import Status, serve
from ingestion.lease import Lease
from ingestion.loop import Loop, Pace
from ingestion.metrics import Metrics
from ingestion.pause import pause
from ingestion.ports import ChainSource
from ingestion.reading import hold_reading
from ingestion.report import reporting
from ingestion.stellar import worker as stellar
from ingestion.surveying import surveying

LEASE_POLL_S = 1.0
"""How often a worker that waits for its turn asks for it."""
LISTEN_EVERY_S = 1.0
"""How often silence is listened for."""
POOL_SIZE = 6
"""Connections of one worker: the lease, the block, a reader, the report, and a backfill with its lease."""

_log = structlog.get_logger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="ingestion.main", description="Follow one chain into the ledger.")
    parser.add_argument("--chain", required=True, help="CAIP-2 id of a configured chain")
    parser.add_argument("--health-host", default="127.0.0.1")
    parser.add_argument("--health-port", type=int, help="serve /livez, /readyz and /metrics there")
    args = parser.parse_args(argv)
    settings = load()
    logs.configure("ingestion")
    try:
        chain = settings.chain(args.chain)
    except LookupError as error:
        return _refuse(str(error))
    url = settings.database.url.get_secret_value()
    address = None if args.health_port is None else (args.health_host, args.health_port)
    try:
        asyncio.run(follow(url, chain, address))
    except CustodyError as error:
        _log.critical("ingestion.stopped", chain=chain.id, code=error.code, error=str(error))
        print(f"ingestion of {chain.id} stopped: {error}", file=sys.stderr)  # noqa: T201 (a process's last words)
        return 1
    except (OSError, DBAPIError) as error:
        return _refuse(f"cannot start or go on: {error}")
    return 0


async def follow(url: str, settings: ChainSettings, health: tuple[str, int] | None) -> None:
    """Follow one chain until SIGTERM or SIGINT. Raises the broken invariant that ends it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    db = Database(url, pool_size=POOL_SIZE)
    metrics = Metrics(parse_chain_id(settings.id), SystemClock())
    source = build_source(settings, db, metrics)
    status = Status(started_at=loop.time(), silence_s=settings.silence_s)
    server = None if health is None else await serve(status, metrics, *health)
    try:
        await run_worker(db, source, settings, stop=stop, metrics=metrics, status=status)
    finally:
        if server is not None:
            server.close()
        await source.aclose()
        await db.close()


async def run_worker(
    db: Database,
    source: ChainSource,
    settings: ChainSettings,
    *,
    stop: asyncio.Event,
    metrics: Metrics,
    status: Status,
) -> None:
    """Wait for the chain's lease, take its fence, and follow it until `stop`."""
    async with Lease(db, source.chain) as lease:
        while not await lease.take():
            _log.info("ingestion.waiting_for_lease", chain=source.chain)
            await pause(stop, LEASE_POLL_S)
            if stop.is_set():
                return
        status.leased_at = asyncio.get_running_loop().time()
        async with listening(status, metrics, source.chain):
            if await _reach(source, stop):
                await _follow(db, source, settings, stop=stop, metrics=metrics, status=status)


async def _follow(
    db: Database,
    source: ChainSource,
    settings: ChainSettings,
    *,
    stop: asyncio.Event,
    metrics: Metrics,
    status: Status,
) -> None:
    async with db.unit_of_work(None) as uow:
        fence = await cursor.take_over(uow, source.chain)
        await hold_reading(uow, source.chain, settings.calls_from, may_change=True)
    try:
        await _follow_as(fence, db, source, settings, stop=stop, metrics=metrics, status=status)
    except FenceLost:
        # Another worker has the chain, and speaks for it.
        raise
    except InvariantViolated as broken:
        await halting.tell_broken(db, source.chain, fence, broken)
        raise


async def _follow_as(
    fence: int,
    db: Database,
    source: ChainSource,
    settings: ChainSettings,
    *,
    stop: asyncio.Event,
    metrics: Metrics,
    status: Status,
) -> None:
    metrics.leased(True)
    status.waiting_for_lease = False
    status.started_at = asyncio.get_running_loop().time()
    _log.info("ingestion.started", chain=source.chain, fence=fence)
    terms = terms_of(settings)
    pace = Pace(terms=terms, start_height=settings.start_height, poll_interval_s=settings.poll_interval_s)
    async with (
        reporting(db, source.chain, fence, metrics, status, stop),
        filling(db, source.chain, lambda: build_source(settings, db), terms.untouched(), stop),
        surveying(db, settings, fence, metrics, stop),
        hearing(settings.ws_url, source.chain, metrics, stop) as news,
    ):
        followed = Loop(
            db=db,
            source=source,
            pace=pace,
            fence=fence,
            stop=stop,
            metrics=metrics,
            status=status,
            news=news,
        )
        await followed.run()


@asynccontextmanager
async def listening(status: Status, metrics: Metrics, chain: ChainId) -> AsyncIterator[None]:
    """Meanwhile, tell of silence when it begins and when it ends."""
    watching = asyncio.create_task(_listen(status, metrics, chain))
    try:
        yield
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


async def _listen(status: Status, metrics: Metrics, chain: ChainId) -> None:
    was_silent = False
    while True:
        now = asyncio.get_running_loop().time()
        silent = status.silent(now)
        if silent and not was_silent:
            _log.error("ingestion.silent", chain=chain, seconds=round(status.quiet_s(now)))
        elif was_silent and not silent:
            _log.warning("ingestion.silence_ended", chain=chain)
        metrics.silent(silent)
        was_silent = silent
        await asyncio.sleep(LISTEN_EVERY_S)


def build_source(settings: ChainSettings, db: Database, metrics: Metrics | None = None) -> ChainSource:
    """Where this chain's blocks come from."""
    match settings.kind:
        case "stellar":
            return stellar.build_source(settings, db, metrics)
        case "evm":
            return evm.build_source(settings, db, metrics)
        case _:
            assert_never(settings.kind)


async def _reach(source: ChainSource, stop: asyncio.Event) -> bool:
    """Wait until the node answers for the right network. False when told to stop first; raises WrongNetwork."""
    failures = 0
    while not stop.is_set():
        try:
            await source.verify_network()
        except Unavailable as error:
            failures += 1
            _log.warning("ingestion.node_away", chain=source.chain, error=str(error))
            await pause(stop, backoff(failures))
        else:
            return True
    return False


def _refuse(sentence: str) -> int:
    print(f"ingestion: {sentence}", file=sys.stderr)  # noqa: T201 (a process's last words)
    return 2


if __name__ == "__main__":
    sys.exit(main())
