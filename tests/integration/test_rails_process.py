"""The rails worker as a process of its own, killed at random moments, with the bank's books as the judge."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from custody.db.session import Database
from custody.kernel.clock import SystemClock
from custody.kernel.ids import TenantId
from custody.payouts.model import Payout
from custody.receipts import service as receipts
from devnet.bank.ibans import NEVER_TOLD, NORMAL, OUTAGE_FIRST, REFUSED
from rails import intake
from rails.sandbox.adapter import SandboxRail
from tests.fakes.bank_process import ROOT, SECRET, BankProcess, CallbackListener, free_port
from tests.fakes.fiat import Fiat, make_fiat

KILLS = 6


def write_config(folder: Path, dsn: str, bank_url: str) -> Path:
    """What the worker reads; the parts that it does not use are only named."""
    config = folder / "custody.toml"
    config.write_text(
        "\n".join(
            [
                'environment = "development"',
                "intent_valid_s = 60",
                "sweep_interval_s = 0.05",
                "chains = []",
                "[database]",
                f'url = "{dsn}"',
                "[redis]",
                'url = "redis://127.0.0.1:1/0"',
                "[signer]",
                'socket = "/nonexistent"',
                "[api]",
                "port = 1",
                "[rails.sandbox]",
                'kind = "sandbox"',
                f'base_url = "{bank_url}"',
                f'callback_secret = "{SECRET}"',
                "timeout_s = 1",
            ]
        )
    )
    return config


async def start_worker(config: Path) -> asyncio.subprocess.Process:
    """`python -m rails.worker` with this configuration; what it logs is beside it, from this start on."""
    with log_of(config).open("wb") as out:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rails.worker"),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUSTODY_CONFIG": str(config)},
            stdout=out,
            stderr=out,
        )


def log_of(config: Path) -> Path:
    return config.with_name("rails.log")


async def listening(config: Path) -> None:
    """Until the worker has begun, and so ends in order when asked to."""
    while True:
        if b"rails.started" in log_of(config).read_bytes():
            return
        await asyncio.sleep(0.05)


async def ended(fiat: Fiat, payout: Payout) -> None:
    """Until the payout has come to its end; the test's own time limit ends a wait in vain."""
    while True:
        if (await fiat.get(payout.id)).state in {"settled", "rejected"}:
            return
        await asyncio.sleep(0.1)


@pytest.fixture
async def outside(tmp_path: Path) -> AsyncIterator[tuple[CallbackListener, BankProcess]]:
    """A bank, and who hears its callbacks; both end with the test, however it ends."""
    listener = CallbackListener(free_port())
    await listener.start()
    bank = BankProcess(tmp_path, listener.url)
    await bank.start()
    yield listener, bank
    await bank.kill()
    await listener.stop()


@pytest.mark.stack
@pytest.mark.timeout(120)
async def test_a_worker_killed_again_and_again_pays_each_payout_once(
    database: Database,
    tenant: TenantId,
    app_dsn: str,
    tmp_path: Path,
    outside: tuple[CallbackListener, BankProcess],
) -> None:
    seed = int(os.environ.get("CUSTODY_SEED", "0")) or random.randrange(1, 2**32)
    print(f"seed {seed}: set CUSTODY_SEED to replay")
    chance = random.Random(seed)
    listener, bank = outside
    fiat = await make_fiat(database, tenant)
    rail = SandboxRail("sandbox", base_url=bank.url, callback_secret=SECRET, timeout_s=2)
    config = write_config(tmp_path, app_dsn, bank.url)
    async with database.unit_of_work(tenant) as uow:
        reference = await receipts.reference_for(uow, fiat.wallet_id)
    await bank.pay_in(100_000, reference)
    await listener.wait_for(1)
    await intake.apply(database, SystemClock(), rail.parse_callback(*listener.received[0]))
    endings = [chance.choice([NORMAL, NEVER_TOLD, OUTAGE_FIRST, REFUSED]) for _ in range(40)]
    requested = [await fiat.request(100 + n, ending) for n, ending in enumerate(endings)]
    paid = sorted(-100 - n for n, ending in enumerate(endings) if ending != REFUSED)

    worker = await start_worker(config)
    try:
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.5, 1.6))
            worker.send_signal(signal.SIGKILL)
            await worker.wait()
            worker = await start_worker(config)
        for payout in requested:
            await ended(fiat, payout)
        await listening(config)
        worker.send_signal(signal.SIGTERM)
        assert await worker.wait() == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()
    today = datetime.now(UTC).date()
    statement = await rail.statement(fiat.account.iban, today - timedelta(days=1), today + timedelta(days=1))
    await rail.aclose()
    assert sorted(entry.amount for entry in statement.entries[1:]) == paid
    kept = 100_000 + sum(paid)
    assert statement.closing == kept
    assert await fiat.books() == {"wallet": kept, "available": kept, "bank": kept, "suspense": 0, "trial": 0}


async def test_a_worker_without_configuration_names_what_is_missing(tmp_path: Path) -> None:
    config = tmp_path / "empty.toml"
    config.write_text("")
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rails.worker"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CUSTODY_CONFIG": str(config)},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await worker.communicate()
    assert worker.returncode == 1
    assert b"database" in errors
