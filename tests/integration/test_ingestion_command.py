"""`custody ingest` as an operator runs it: against a killed worker, a killed backfill, a node that forgot, and in scripts."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from custody.db.session import Database
from custody.kernel.ids import VaultId, derived_uuid
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served
from ingestion.backfill import store
from ingestion.backfill.model import EVERY_VAULT
from ingestion.tables import ingestion_readings
from tests.commands import custody
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.ingestion_harness import (
    OMNIBUS_REQUEST,
    Desk,
    build_loop,
    catch_up,
    open_ledgers,
    take_fence,
)
from tests.integration.test_ingestion_process import CHAIN, ROOT, XLM, config, desk, served

__all__ = ["config", "desk", "served"]

ACCOUNT = FakeKeyMaker.account_of(OMNIBUS_REQUEST, CHAIN)
FUNDED = 10_000 * 10**7
VAULT = Vault(
    id=VaultId(derived_uuid("vault", "imported")),
    chain=CHAIN,
    purpose="omnibus",
    wallet_id=None,
    key_id=OMNIBUS_REQUEST.hex,
    account=ACCOUNT,
)

pytestmark = pytest.mark.stack


async def start_command(config: Path, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "ingest", *words),
        cwd=ROOT,
        env={**os.environ, "CUSTODY_CONFIG": str(config)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def command(config: Path, *words: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    async with asyncio.timeout(60):
        done = await asyncio.to_thread(custody, config, "ingest", *words)
    return done.returncode, done.stdout, done.stderr


async def status(config: Path) -> tuple[int | None, dict[str, Any]]:
    code, out, err = await command(config, "status", "--json")
    assert out, err
    return code, json.loads(out)["chains"][0]


@asynccontextmanager
async def worker(config: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ingestion.main", "--chain", CHAIN),
        cwd=ROOT,
        env={**os.environ, "CUSTODY_CONFIG": str(config)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(reached: Callable[[], Any]) -> None:
    """Return when the database says so."""
    async with asyncio.timeout(40):
        # Another process works: nothing on this side could set an event.
        while not await reached():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def ingest_from(desk: Desk, served: Served, start: int) -> None:
    """The live loop's first block is `start`; it reaches the tip."""
    source = open_ledgers(CHAIN, served.url, served.network.passphrase, desk.db)
    loop = build_loop(desk.db, source, await take_fence(desk.db, desk.chain), start_height=start)
    await catch_up(loop)
    await source.aclose()


async def make_history(served: Served, *, ledgers: int) -> None:
    """Three arrivals at the account, spread over so many ledgers."""

    def send() -> None:
        with Outsider(served.url, drive=True) as outsider:
            outsider.fund(ACCOUNT)
            payer = outsider.new_account()
            for amount in (11, 12):
                for _ in range(ledgers // 2):
                    served.network.close()
                outsider.pay(payer, ACCOUNT, amount)
        served.network.close()

    await asyncio.to_thread(send)


async def ordered_next(db: Database) -> int:
    async with db.read(None) as session:
        found = await store.find_ordered(session, CHAIN, EVERY_VAULT)
    return found[0].next if found else -1


async def test_a_backfill_that_is_killed_resumes_where_it_stood_and_books_each_deposit_once(
    desk: Desk, config: Path, served: Served
) -> None:
    await desk.open_omnibus()
    await make_history(served, ledgers=80)
    tip = served.network.latest.sequence
    await ingest_from(desk, served, tip)
    words = ("backfill", "--chain", CHAIN, "--from", "2", "--to", str(tip - 1))
    served.network.order_faults({"latency_ms": 250})
    process = await start_command(config, *words)

    async def has_moved() -> bool:
        return await ordered_next(desk.db) > 12

    await until(has_moved)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    stood = await ordered_next(desk.db)
    assert 12 < stood < tip
    served.network.order_faults({"latency_ms": 0})
    code, _, err = await command(config, *words)
    assert code == 0, err
    assert f"every vault, blocks 2 to {tip - 1} are read" in err
    assert await ordered_next(desk.db) == tip
    assert [(each.transfer.amount, each.state) for each in await desk.deposits()] == [
        (FUNDED, "suspended"),
        (11, "suspended"),
        (12, "suspended"),
    ]
    # Once more: it is done, and nothing is read.
    code, _, err = await command(config, *words)
    assert (code, len(await desk.deposits())) == (0, 3)
    assert "0 deposits were new" in err


async def test_a_backfill_says_by_name_what_it_cannot_do(desk: Desk, config: Path, served: Served) -> None:
    await make_history(served, ledgers=6)
    tip = served.network.latest.sequence
    await ingest_from(desk, served, tip)
    for words, sentence in (
        (("--from", "2", "--to", str(tip + 5)), "ingestion_bad_range"),
        (("--from", "9", "--to", "3"), "ingestion_bad_range"),
        (("--from", "2", "--to", "3", "--account", "GNOBODY"), "no vault has this account"),
        (("--from", "2"), "give --from and --to"),
        (("--from", "0", "--to", "3"), "wanted=0, oldest=2"),
    ):
        code, _, err = await command(config, "backfill", "--chain", CHAIN, *words)
        assert code == 2, err
        assert sentence in err
    code, _, err = await command(config, "backfill", "--chain", "stellar:nowhere")
    assert (code, "not configured" in err) == (2, True)
    _, shown = await status(config)
    async with desk.db.unit_of_work(None) as uow:
        await uow.conn.execute(update(ingestion_readings).values(calls_from=2))
    code, _, err = await command(config, "backfill", "--chain", CHAIN, "--from", "2", "--to", "3")
    assert (code, "ingestion_reading_changed" in err) == (2, True)
    assert [each["code"] for each in shown["alarms"]] == ["no_worker", "backfill_halted", "hole"]
    assert shown["holes"] == [[4, tip - 1]]
    assert shown["backfills"][0]["next"] == 0


async def test_status_shows_the_worker_its_lag_and_its_backfills_and_ends_with_a_code_for_scripts(
    desk: Desk, config: Path, served: Served
) -> None:
    code, empty = await status(config)
    assert (code, [each["code"] for each in empty["alarms"]]) == (1, ["no_worker"])
    assert (empty["cursor_height"], empty["covered"]) == (None, [])
    await make_history(served, ledgers=4)
    tip = served.network.latest.sequence
    async with worker(config) as process:

        async def follows() -> bool:
            _, shown = await status(config)
            return bool(shown["cursor_height"] == tip and not shown["alarms"])

        await until(follows)
        code, shown = await status(config)
        assert code == 0
        assert shown["worker"]["holder"].endswith(f"/{process.pid}")
        assert (shown["head_height"], shown["lag_blocks"]) == (tip, 0)
        assert shown["covered"] == [[served.network.oldest.sequence, tip]]
        # The account becomes a vault while the worker runs: it fills its history in by itself.
        async with desk.db.unit_of_work(desk.tenant) as uow:
            await wallets.add_vault(uow, "test", VAULT)

        async def is_filled() -> bool:
            return await desk.suspended(XLM) == FUNDED + 23

        await until(is_filled)
        code, out, err = await command(config, "status")
        assert code == 0, out + err
        for word in (CHAIN, f"/{process.pid}", "rpc", str(tip), "well", "no alarms"):
            assert word in out


async def test_on_a_terminal_a_bar_shows_how_far_how_fast_and_how_long(
    desk: Desk, config: Path, served: Served
) -> None:
    await make_history(served, ledgers=60)
    tip = served.network.latest.sequence
    await ingest_from(desk, served, tip)
    served.network.order_faults({"latency_ms": 200})
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "ingest", "backfill"),
        *("--chain", CHAIN, "--from", "2", "--to", str(tip - 1)),
        cwd=ROOT,
        env={**os.environ, "CUSTODY_CONFIG": str(config), "TERM": "xterm"},
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):
        while part := await asyncio.to_thread(os.read, ours, 4096):
            shown += part
    os.close(ours)
    assert await process.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert f"every vault 2-{tip - 1}" in text
    assert f"{tip - 2}/{tip - 2}" in text
    assert re.search(r"\d+\.\d blocks/s +\d+:\d\d:\d\d", text), text
