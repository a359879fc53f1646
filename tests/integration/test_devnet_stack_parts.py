"""The pieces that the local stack is made of: ports, secrets, processes, the watchdog, a throw-away Postgres, a SoftHSM token."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from devnet import ports, softhsm
from devnet.postgres import create_cluster, delete_cluster
from devnet.processes import ManagedProcess, NotReady, ProcessSpec, StackError, Watchdog, birth
from devnet.record import RunningProcess, StackRecord, end_leftovers, load_record, running, take_place
from devnet.secrets import secret_file, write_private
from devnet.stack import Stack
from devnet.throwaway import throwaway_postgres
from devnet.users import SystemUser, reachable

ROOT = Path(__file__).parent.parent.parent


def sleeper(
    name: str = "sleeper", *, code: str = "import time; time.sleep(600)", **changed: object
) -> ProcessSpec:
    spec: dict[str, object] = {
        "name": name,
        "argv": (sys.executable, "-c", code),
        "env": {"PATH": os.defpath},
        "cwd": ROOT,
        "ready": lambda: True,
    }
    return ProcessSpec(**(spec | changed))  # type: ignore[arg-type]  # built from a plain dict on purpose


def gone_within(pid: int, seconds: int) -> bool:
    deadline = time.monotonic() + seconds
    while birth(pid) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    return birth(pid) is None


def test_free_port_that_was_asked_for_is_given() -> None:
    free = ports.choose_port("x", None, set(), pytest.fail)
    assert ports.choose_port("x", free, set(), pytest.fail) == free


def test_port_in_use_is_replaced_and_said() -> None:
    said: list[str] = []
    with socket.socket() as busy:
        busy.bind((ports.HOST, 0))
        busy.listen()
        wanted = busy.getsockname()[1]
        given = ports.choose_port("anvil", wanted, set(), said.append)
    assert given != wanted
    assert said == [f"port {wanted} is in use: anvil gets {given} instead"]


def test_port_is_given_once() -> None:
    taken: set[int] = set()
    given = [ports.choose_port("x", None, taken, pytest.fail) for _ in range(20)]
    assert len(set(given)) == 20


def test_secret_is_made_once_and_private(tmp_path: Path) -> None:
    first = secret_file(tmp_path / "secret")
    assert secret_file(tmp_path / "secret") == first
    assert len(first) == 32
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_private_file_stays_private_when_it_was_not(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("old")
    (tmp_path / "f").chmod(0o644)
    write_private(tmp_path / "f", "new")
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == 0o600


def test_folder_without_passage_is_not_reachable(tmp_path: Path) -> None:
    stranger = SystemUser(name="nobody", uid=65534, gid=65534)
    open_folder = Path("/usr/bin/env")
    assert reachable(open_folder, stranger)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "file").write_text("x")
    assert not reachable(closed / "file", stranger)
    assert not reachable(tmp_path / "missing", stranger)


def test_process_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    watchdog = Watchdog()
    spec = sleeper(code="print('no such token'); raise SystemExit(3)", ready=lambda: False)
    process = ManagedProcess(spec, tmp_path / "log", watchdog)
    process.start()
    with pytest.raises(NotReady, match=r"(?s)sleeper ended with code 3 before it was ready.*no such token"):
        process.wait_ready()
    watchdog.close()


def test_silent_process_is_given_up_on(tmp_path: Path) -> None:
    watchdog = Watchdog()
    process = ManagedProcess(sleeper(ready=lambda: False, ready_timeout_s=0.2), tmp_path / "log", watchdog)
    process.start()
    with pytest.raises(NotReady, match="was not ready within"):
        process.wait_ready()
    process.kill()
    watchdog.close()


def test_kill_takes_the_children_too(tmp_path: Path) -> None:
    watchdog = Watchdog()
    child = tmp_path / "child"
    code = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(child)!r}, 'w').write(str(p.pid))\n"
        "time.sleep(600)"
    )
    process = ManagedProcess(
        sleeper(code=code, ready=lambda: child.exists() and bool(child.read_text())),
        tmp_path / "log",
        watchdog,
    )
    process.start()
    process.wait_ready()
    process.kill()
    assert process.pid is None
    assert gone_within(int(child.read_text()), 10)
    watchdog.close()


def test_stubborn_process_is_killed_after_the_grace(tmp_path: Path) -> None:
    watchdog = Watchdog()
    deaf = tmp_path / "deaf"
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"open({str(deaf)!r}, 'w').close()\n"
        "time.sleep(600)"
    )
    process = ManagedProcess(sleeper(code=code, ready=deaf.exists), tmp_path / "log", watchdog)
    process.start()
    process.wait_ready()
    process.stop(grace_s=0.2)
    assert process.pid is None
    watchdog.close()


def test_processes_die_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = (
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from devnet.processes import ManagedProcess, ProcessSpec, Watchdog\n"
        "spec = ProcessSpec(name='s', argv=(sys.executable, '-c', 'import time; time.sleep(600)'), env={}, cwd=Path('/'),\n"
        "                   ready=lambda: True)\n"
        f"process = ManagedProcess(spec, Path({str(tmp_path / 'log')!r}), Watchdog())\n"
        "process.start()\n"
        f"Path({str(told) + '.new'!r}).write_text(str(process.pid)); os.rename({str(told) + '.new'!r}, {str(told)!r})\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as parent:
        while not told.exists():
            assert parent.poll() is None
            time.sleep(0.05)
        orphan = int(told.read_text())
        assert birth(orphan) is not None
        parent.send_signal(signal.SIGKILL)
    assert gone_within(orphan, 15)


def test_leftovers_of_a_detached_stack_are_ended(tmp_path: Path) -> None:
    watchdog = Watchdog()
    process = ManagedProcess(sleeper(), tmp_path / "log", watchdog)
    process.start()
    pid = process.pid
    assert pid is not None
    watchdog.detach()
    found = running("sleeper", pid)
    assert found is not None
    StackRecord(supervisor=None, processes=(found,), urls={"api": "http://x"}).save(tmp_path / "stack.json")
    record = load_record(tmp_path / "stack.json")
    assert record is not None
    assert record.processes == (found,)
    assert end_leftovers(record) == ["sleeper"]
    process.kill()
    assert end_leftovers(record) == []


def test_stranger_with_a_used_number_is_left_alone() -> None:
    stranger = RunningProcess(name="api", pid=os.getpid(), birth="another time")
    record = StackRecord(supervisor=None, processes=(stranger,))
    assert end_leftovers(record) == []


def test_throwaway_postgres_asks_for_a_password_and_leaves_nothing() -> None:
    with throwaway_postgres() as cluster:
        assert cluster.run_sql("SELECT 1 + 1").strip() == "2"
        with pytest.raises(StackError, match="password authentication failed"):
            replace(cluster, password="wrong").run_sql("SELECT 1")
        home = cluster.data.parent
    assert not home.exists()


def test_postgres_starts_again_after_it_was_killed(tmp_path: Path) -> None:
    watchdog = Watchdog()
    cluster = create_cluster(tmp_path, ports.choose_port("postgres", None, set(), print), durable=False)
    process = ManagedProcess(cluster.spec(), tmp_path / "log", watchdog)
    process.start()
    process.wait_ready()
    cluster.run_sql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
    process.kill()
    assert (cluster.data / "postmaster.pid").exists()
    cluster.forget_lock()
    process.start()
    process.wait_ready()
    assert cluster.run_sql("SELECT n FROM kept").strip() == "7"
    process.stop()
    watchdog.close()
    delete_cluster(tmp_path)


def test_token_is_made_once_and_its_pin_is_private(tmp_path: Path) -> None:
    token = softhsm.create_token(tmp_path / "hsm")
    pin = token.pin_file.read_text()
    assert softhsm.create_token(tmp_path / "hsm").pin_file.read_text() == pin
    assert stat.S_IMODE(token.pin_file.stat().st_mode) == 0o600
    shown = subprocess.run(
        ["softhsm2-util", "--show-slots"],
        env={"PATH": os.environ["PATH"], "SOFTHSM2_CONF": str(token.conf)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.count("Label:            custody") == 1


def test_missing_softhsm_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(StackError, match="apt-get install softhsm2"):
        softhsm.create_token(tmp_path / "hsm")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
def test_postgres_runs_from_a_checkout_that_only_root_can_enter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone below a private folder: the unprivileged user cannot reach the wheel and gets a copy that works."""
    monkeypatch.setattr("devnet.postgres.reachable", lambda *_: False)
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    monkeypatch.setattr("devnet.postgres._COPY_NAME", f"custody-test-pginstall-{os.getpid()}")
    copies = Path("/tmp")
    try:
        with throwaway_postgres() as cluster:
            assert cluster.install.is_relative_to(copies)
            assert cluster.run_sql("SELECT 1").strip() == "1"
    finally:
        for copy in copies.glob(f"custody-test-pginstall-{os.getpid()}-*"):
            shutil.rmtree(copy)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root keeps Postgres's data away from its state folder")
def test_data_of_a_state_folder_that_is_gone_is_swept(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    port = ports.choose_port("postgres", None, set(), print)
    left = create_cluster(gone, port, durable=False)
    assert left.data.exists()
    shutil.rmtree(gone)
    here = tmp_path / "here"
    here.mkdir()
    kept = create_cluster(here, port, durable=False)
    assert not left.data.exists()
    assert kept.data.exists()
    delete_cluster(here)


def test_no_password_stands_in_the_list_of_processes() -> None:
    with throwaway_postgres() as server:
        # psql's own arguments, told by a shell that it starts.
        shown = server.run_sql("\\! ps -ww -o args= -p $PPID\n")
    assert "psql" in shown
    assert server.password not in shown


def test_a_second_start_leaves_one_alone_that_is_still_preparing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "precious").touch()
    preparing = take_place(state)
    assert preparing is not None
    with pytest.raises(StackError, match="runs already"):
        Stack(state, say=lambda _: None).up()
    assert (state / "precious").exists()
    preparing.close()
    again = take_place(state)
    assert again is not None
    again.close()
