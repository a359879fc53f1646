"""The worker as a process of its own: it sends, is killed between sending and writing down, and is started again; the command."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from custody.db.session import Database
from custody.kernel.ids import TenantId, show_id
from tests import commands
from tests.fakes.webhook_receiver import receiving
from tests.integration.webhook_stage import KEY, Stage, make_webhook_settings

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """
environment = "development"
intent_valid_s = 60
chains = []
[database]
url = "{url}"
[redis]
url = "redis://127.0.0.1:1/0"
[signer]
socket = "/nonexistent/signer.sock"
[api]
port = 1
[webhooks]
secret_keys = ["{key}"]
timeout_s = 1
allow_http = true
allowed_networks = ["127.0.0.0/8"]
"""
LEASE_S = 21


def start(folder: Path, url: str, log: Path) -> subprocess.Popen[bytes]:
    config = folder / "custody.toml"
    config.write_text(CONFIG.format(url=url, key=KEY), "utf-8")
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "custody.worker"],
            cwd=ROOT, env={**os.environ, "CUSTODY_CONFIG": str(config)}, stdout=out, stderr=out,
        )  # fmt: skip


async def test_kill_9_between_sending_and_writing_down_sends_a_copy_under_the_same_id(
    database: Database, tenant: TenantId, app_dsn: str, tmp_path: Path
) -> None:
    stage = Stage(db=database, tenant=tenant, settings=make_webhook_settings(timeout_s=1))
    log = tmp_path / "worker.log"
    killed = asyncio.Event()

    async def kill_and_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        worker.send_signal(signal.SIGKILL)
        await asyncio.to_thread(worker.wait)
        killed.set()

    async with receiving() as receiver:
        endpoint, secret = await stage.endpoint(receiver.url(path="/hook/t0p-s3cret"))
        receiver.answers = [kill_and_answer, 200]
        worker = start(tmp_path, app_dsn, log)
        await stage.happen()
        async with asyncio.timeout(60):
            await killed.wait()
        (left,) = await stage.deliveries()
        assert (left.state, left.attempts) == ("sending", 1)
        # Another worker, after the lease: this one's clock is ahead, so that the test need not wait for it.
        stage.clock.advance(LEASE_S + 30)
        assert await stage.settle() == 0
        stage.clock.advance(10)
        assert await stage.settle() == 1
        assert [got.verifies_with(secret) for got in receiver.received] == [True, True]
        assert len({(got.id, got.body) for got in receiver.received}) == 1
        # A whole life of the process: relays, sends, writes down, ends when asked.
        worker = start(tmp_path, app_dsn, log)
        receiver.arrived.clear()
        await stage.happen()
        async with asyncio.timeout(60):
            await receiver.arrived.wait()
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 30) == 0
    assert [each.state for each in await stage.deliveries(endpoint)] == ["delivered", "delivered"]
    written = log.read_text("utf-8")
    assert '"event": "webhook.sent"' in written or '"event":"webhook.sent"' in written
    for hidden in (secret, secret.removeprefix("whsec_"), KEY, "t0p-s3cret"):
        assert hidden not in written


async def test_the_command_lists_endpoints_and_tests_one(
    database: Database, tenant: TenantId, app_dsn: str, tmp_path: Path
) -> None:
    stage = Stage(db=database, tenant=tenant)
    config = tmp_path / "custody.toml"
    config.write_text(CONFIG.format(url=app_dsn, key=KEY), "utf-8")

    async def custody(*words: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(commands.custody, config, "webhooks", *words)

    async with receiving() as receiver:
        endpoint, secret = await stage.endpoint(receiver.url(path="/t0p-s3cret"), "deposit.*")
        shown = show_id("whe", endpoint)
        mine = ("--tenant", str(tenant))
        listed = await custody("list", *mine)
        assert (listed.returncode, listed.stderr) == (0, "")
        line = json.loads(listed.stdout)
        assert (line["endpoint"], line["state"], line["host"]) == (shown, "active", "127.0.0.1")
        assert "t0p-s3cret" not in listed.stdout
        tried = await custody("test", shown, *mine)
        assert (tried.returncode, json.loads(tried.stdout)["status"]) == (0, 200)
        assert receiver.received[0].verifies_with(secret)
        assert receiver.received[0].event["type"] == "webhook.test"
        receiver.answers = [500]
        failed = await custody("test", shown, *mine)
        assert (failed.returncode, json.loads(failed.stdout)["error"]) == (1, "status_refused")
        for words, code, said in (
            (("test", "whe_1", *mine), 1, "malformed_id"),
            (("test", "whe_" + "0" * 32, *mine), 1, "unknown_webhook_endpoint"),
            (("list", "--tenant", "999"), 2, "there is no tenant 999"),
        ):
            done = await custody(*words)
            assert (done.returncode, done.stdout) == (code, "")
            assert said in done.stderr
    assert await stage.deliveries() == []
    assert (await stage.state(endpoint)).failures == 0
