"""Real processes of the local stack: started in a group of their own, logged to a file, ended with everything they started."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from devnet.users import SystemUser

Probe = Callable[[], bool]
"""Answers whether the process serves already. It must return or raise OSError within a second or so."""


class StackError(Exception):
    """The local stack could not do what was asked; the text is one sentence for the person at the terminal."""


class NotReady(StackError):
    """A process ended or stayed silent instead of becoming ready. Carries the last lines of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSpec:
    """How one process is started and how one knows that it serves."""

    name: str
    """Its name in messages, in `stack.kill(name)` and of its log file."""
    argv: tuple[str, ...]
    env: Mapping[str, str]
    """The whole environment: nothing is inherited that is not named here."""
    cwd: Path
    ready: Probe
    ready_timeout_s: float = 60.0
    stop_signal: signal.Signals = signal.SIGTERM
    user: SystemUser | None = None
    """The system user that it runs as; None is ours."""


class ManagedProcess:
    """One process by its specification: started, killed and started again as often as a test wants."""

    def __init__(self, spec: ProcessSpec, log_path: Path, watchdog: "Watchdog") -> None:
        self.spec = spec
        self.log_path = log_path
        self._watchdog = watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_to_end = False

    @property
    def pid(self) -> int | None:
        """Its process id, also the id of its group; None while it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it; a no-op when it runs."""
        if self.pid is not None:
            return
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        user = self.spec.user
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.spec.argv,
                env=dict(self.spec.env),
                cwd=self.spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
        self._asked_to_end = False
        self._watchdog.began(self._process.pid)

    def wait_ready(self) -> None:
        """Return when its probe says that it serves. Raises NotReady when it ends first or the time is over."""
        deadline = time.monotonic() + self.spec.ready_timeout_s
        while True:
            if self._process is None or self._process.poll() is not None:
                code = None if self._process is None else self._process.returncode
                raise NotReady(
                    f"{self.spec.name} ended with code {code} before it was ready{self._log_end()}"
                )
            if answers(self.spec.ready):
                return
            if time.monotonic() > deadline:
                limit = self.spec.ready_timeout_s
                raise NotReady(f"{self.spec.name} was not ready within {limit:.0f} s{self._log_end()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL to it and to everything that it started; returns when it is gone."""
        if self.pid is not None:
            _kill_group(self.pid)
        self._finish(grace_s=10.0)

    def ask_to_end(self) -> None:
        """Ask it to end, once, and go on: `stop` then waits. So several processes end at the same time."""
        if self._process is not None and self._process.poll() is None and not self._asked_to_end:
            # To the process alone: Postgres wants the signal at its head, and tells its children itself.
            self._process.send_signal(self.spec.stop_signal)
            self._asked_to_end = True

    def stop(self, grace_s: float = 10.0) -> None:
        """Ask it to end, and kill it with its children when it has not after the grace."""
        self.ask_to_end()
        self._finish(grace_s)

    def _finish(self, grace_s: float) -> None:
        if self._process is None:
            return
        group = self._process.pid
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            _kill_group(group)
            self._process.wait()
        _kill_group(group)
        self._watchdog.ended(group)
        # Forgotten, so that a second stop cannot hit a stranger who got the same number.
        self._process = None

    def _log_end(self, lines: int = 15) -> str:
        if not self.log_path.exists():
            return ""
        text = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]
        return (
            "\n  ".join([f"; the end of {self.log_path}:", *text]) if text else f"; {self.log_path} is empty"
        )


class Watchdog:
    """Our end of devnet/watchdog.py: it ends every process named here when this process disappears."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def began(self, group: int) -> None:
        """From now on this process group dies with us."""
        self._tell(f"+{group}")

    def ended(self, group: int) -> None:
        """This process group is gone; its number may soon belong to a stranger."""
        if self._process is not None:
            self._tell(f"-{group}")

    def detach(self) -> None:
        """Let the processes outlive us."""
        self._tell("detach")
        self._close()

    def close(self) -> None:
        """Release the watchdog after everything was stopped; what still runs is ended by it."""
        self._close()

    def _tell(self, line: str) -> None:
        if self._process is None:
            script = Path(__file__).with_name("watchdog.py")
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(script)],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        pipe = self._process.stdin
        if pipe is None:
            raise StackError("the watchdog has no input pipe")
        pipe.write(line + "\n")
        pipe.flush()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait(30)
            self._process = None


def answers(probe: Probe) -> bool:
    """The probe's answer, where a refused or broken connection is a no."""
    try:
        return probe()
    except OSError:
        return False


def birth(pid: int) -> str | None:
    """When this process began, in the system's own words: tells a process from a later one with the same number."""
    status = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        # proc(5): field 3, the state, comes first after the name; field 22 is the start time in clock ticks after boot.
        return None if fields[0] == "Z" else fields[19]
    told = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or None


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Already gone. macOS says "permission" about a group of which only the unreaped head is left.
        return
