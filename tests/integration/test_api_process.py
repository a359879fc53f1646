"""The API as a process of its own: settings in, HTTP out, JSON logs, an end when asked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.ids import TenantId

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60

CONFIG = """
environment = "development"
intent_valid_s = 3600
chains = []
[redis]
url = "redis://127.0.0.1:1/0"
[signer]
socket = "/nonexistent/signer.sock"
[api]
host = "127.0.0.1"
port = {port}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A running API."""

    popen: subprocess.Popen[bytes]
    url: str
    log: Path

    def lines(self) -> list[dict[str, object]]:
        """Its log so far."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def process(app_dsn: str, tmp_path: Path, port: int) -> Iterator[Process]:
    log = tmp_path / "api.log"
    with log.open("wb") as out:
        popen = start(app_dsn, tmp_path, port, out.fileno())
        started = Process(popen=popen, url=f"http://127.0.0.1:{port}", log=log)
        try:
            wait_until_alive(started)
            yield started
        finally:
            popen.kill()
            popen.wait()


def start(app_dsn: str, home: Path, port: int, out: int) -> subprocess.Popen[bytes]:
    config = home / "custody.toml"
    config.write_text(CONFIG.format(port=port), "utf-8")
    env = {**os.environ, "CUSTODY_CONFIG": str(config), "CUSTODY_DATABASE__URL": app_dsn}
    return subprocess.Popen([sys.executable, "-m", "api.main"], cwd=ROOT, env=env, stdout=out, stderr=out)


def wait_until_alive(process: Process) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            httpx.get(process.url + "/livez", trust_env=False).raise_for_status()
        except httpx.HTTPError:
            if process.popen.poll() is not None or time.monotonic() > deadline:
                pytest.fail("the API did not come up:\n" + process.log.read_text("utf-8"))
            time.sleep(0.1)
        else:
            return


async def test_it_serves_logs_json_without_secrets_and_ends_when_asked(
    process: Process, database: Database, tenant: TenantId
) -> None:
    async with database.unit_of_work(tenant) as uow:
        key = await identity.issue_api_key(uow, "app", ("read",))
    async with httpx.AsyncClient(base_url=process.url, trust_env=False) as http:
        assert (await http.get("/readyz")).status_code == 200
        headers = {"Authorization": f"Bearer {key.secret}", "X-Request-Id": "trace-77"}
        assert (await http.get("/v1/customers", headers=headers)).json() == {"data": [], "next_cursor": None}
        metrics = (await http.get("/metrics")).text
    assert 'custody_api_requests_total{method="GET",route="/v1/customers",status="200"} 1.0' in metrics
    process.popen.send_signal(signal.SIGTERM)
    assert process.popen.wait(PATIENCE_S) == 0
    (answered,) = [line for line in process.lines() if line["event"] == "request.answered"]
    assert (answered["trace_id"], answered["route"], answered["status"]) == ("trace-77", "/v1/customers", 200)
    assert key.secret not in process.log.read_text("utf-8")


def test_a_port_in_use_is_said_in_one_line(process: Process, app_dsn: str, tmp_path: Path, port: int) -> None:
    second = tmp_path / "second"
    second.mkdir()
    log = second / "api.log"
    with log.open("wb") as out:
        popen = start(app_dsn, second, port, out.fileno())
        assert popen.wait(PATIENCE_S) != 0
    said = [json.loads(line)["event"] for line in log.read_text("utf-8").splitlines()]
    assert len(said) == 1
    assert f"{port}" in said[0]
    assert "address already in use" in said[0]


def test_a_setting_that_is_missing_is_named(tmp_path: Path) -> None:
    config = tmp_path / "custody.toml"
    config.write_text(CONFIG.format(port=1), "utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "api.main"],
        cwd=ROOT,
        env={**os.environ, "CUSTODY_CONFIG": str(config)},
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode != 0
    assert b"database" in ended.stderr
    assert b"Traceback" not in ended.stderr
