"""`custody ...` in a process of its own that need not start one: a host has imported the commands once, and forks for each.

A start costs a second of imports, and a test of commands makes a dozen. The child is a process like any other: its own
memory, environment, output and exit code. Whoever needs another interpreter, a terminal or a signal starts the command itself.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[1]


def custody(config: Path | None, *words: object) -> subprocess.CompletedProcess[str]:
    """Run it to its end, with PATH and this configuration and no other variable, in the checkout, with nothing to read."""
    argv = [str(word) for word in words]
    environment = {"PATH": os.defpath} | ({} if config is None else {"CUSTODY_CONFIG": str(config)})
    with tempfile.TemporaryDirectory(prefix="custody-command-") as place:
        said = [Path(place) / name for name in ("out", "err")]
        code = _host().run({"argv": argv, "environment": environment, "said": [str(path) for path in said]})
        out, err = (path.read_text(encoding="utf-8") for path in said)
    return subprocess.CompletedProcess(["custody", *argv], code, out, err)


class Host:
    """The process that forks, one command at a time."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.commands"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        atexit.register(self.end)

    def run(self, asked: Mapping[str, object]) -> int:
        """How the command ended; negative for a signal, as `subprocess` has it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def end(self) -> None:
        """Nothing is asked any more."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@cache
def _host() -> Host:
    return Host()


def _serve() -> None:
    """Fork for every line, and answer with the exit code."""
    for module in dict.fromkeys(COMMANDS.values()):
        importlib.import_module(f"cli.{module}")
    gc.freeze()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _become(json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(asked: Mapping[str, object]) -> None:
    """Be the command, and end as it does."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    said = asked["said"]
    assert isinstance(said, list)
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(asked["environment"])  # type: ignore[call-overload]  # as `custody` wrote it
    sys.argv = ["custody", *asked["argv"]]  # type: ignore[misc]  # likewise
    sys.exit(main())


if __name__ == "__main__":
    _serve()
