"""The whole local stack: every process serves, dies alone when it is killed, comes back, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import latency
from devnet.processes import StackError, birth
from devnet.record import load_record
from devnet.stack import OUTSIDE, PRODUCT, Stack
from tests import commands

ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack"), latency.OPTIONS) as started:
        started.up()
        yield started


def pids(stack: Stack) -> dict[str, int | None]:
    return {line.name: line.pid for line in stack.status()}


def environment(pid: int) -> dict[str, str]:
    words = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(word.split("=", 1) for word in words if word)


def test_what_an_idle_stack_takes_can_be_measured(stack: Stack) -> None:
    found = asyncio.run(latency.measure_on(stack, samples=1))
    for values in (found.credit_visible, found.requested_to_settled):
        assert [len(each) for each in values.values()] == [1, 1]
        assert all(0 < value < latency.GIVEN_UP_S for each in values.values() for value in each)


def test_every_process_serves(stack: Stack) -> None:
    assert [line.name for line in stack.status() if line.ready] == [*OUTSIDE, *PRODUCT]


def test_files_with_secrets_are_their_owners_alone(stack: Stack) -> None:
    state = stack.places.state
    secret = (
        "custody.toml",
        "admin.dsn",
        "app.password",
        "postgres.password",
        "bank.secret",
        "signer/hsm/pin",
    )
    private = [*(state / name for name in secret), *stack.places.approvers.glob("*.pem")]
    assert {path.name for path in private if stat.S_IMODE(path.stat().st_mode) != 0o600} == set()
    assert len(private) == len(secret) + 3


@pytest.mark.skipif(
    not Path("/proc/self/environ").exists() or os.geteuid() != 0,
    reason="the signer hides its memory from everybody but root, and only Linux shows environments",
)
def test_signer_knows_neither_database_nor_configuration(stack: Stack) -> None:
    pid = pids(stack)["signer"]
    assert pid is not None
    assert set(environment(pid)) == {"PATH", "LANG", "PYTHONUNBUFFERED", "SOFTHSM2_CONF"} | (
        set() if stack.signer_runs_as_us else {"PYTHONDONTWRITEBYTECODE"}
    )
    assert "postgresql" not in (stack.places.signer / "signer.toml").read_text()


@pytest.mark.parametrize("name", PRODUCT)
def test_killed_process_comes_back_and_disturbs_no_other(stack: Stack, name: str) -> None:
    before = pids(stack)
    stack.kill(name)
    assert stack.ended() == [name]
    stack.start(name)
    after = pids(stack)
    assert {other for other in before if before[other] != after[other]} == {name}
    assert stack.ended() == []


def test_unknown_process_is_named_in_the_refusal(stack: Stack) -> None:
    with pytest.raises(StackError, match=r"no process postgress .* there are: postgres"):
        stack.kill("postgress")


def test_second_stack_in_the_same_folder_is_refused(stack: Stack) -> None:
    with pytest.raises(StackError, match="a stack runs already"):
        Stack(stack.places.state).up()
    assert stack.ended() == []


def test_command_leaves_a_stack_running_and_ends_it(tmp_path: Path) -> None:
    place = ("--state-dir", str(tmp_path / "state"))

    def custody(word: str) -> subprocess.CompletedProcess[str]:
        return commands.custody(None, word, *place)

    assert custody("status").returncode == 1
    up = subprocess.run(
        [sys.executable, "-m", "cli.main", "up", "--detach", *place],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert up.returncode == 0, up.stdout + up.stderr
    record = load_record(tmp_path / "state" / "stack.json")
    assert record is not None
    with urllib.request.urlopen(record.urls["api"] + "/livez", timeout=10) as answer:
        assert answer.status == 200
    # A stack that was left running is not ended, nor its state forgotten, by starting another one in its place.
    for again in ("up", "demo"):
        refused = custody(again)
        assert (refused.returncode, "a stack runs already" in refused.stderr) == (1, True)
    assert custody("status").returncode == 0
    down = custody("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert [process.name for process in record.processes if birth(process.pid)] == []
    assert custody("status").returncode == 1
