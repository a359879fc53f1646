"""`custody up`, `custody status`, `custody down`: the local stack for people who want to try things."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from rich.console import Console

from cli.welcome import show_welcome
from devnet.config import ROOT, Places
from devnet.processes import StackError
from devnet.record import RunningProcess, end_leftovers, load_record
from devnet.stack import Options, Stack
from devnet.story.cast import hand_out_keys
from devnet.story.client import StoryError

_LOOK_EVERY_S = 0.5


class Ended(Exception):
    """Somebody asked the command to end (SIGTERM)."""


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the three subcommands."""
    up = subcommands.add_parser("up", help="start the local stack and hold it until Ctrl-C")
    up.add_argument(
        "--detach", action="store_true", help="return when everything is ready; `custody down` ends it"
    )
    up.add_argument("--keep-state", action="store_true", help="continue from the last run's state")
    up.set_defaults(run=run_up)
    status = subcommands.add_parser("status", help="which processes of the local stack run, and where")
    status.set_defaults(run=run_status)
    down = subcommands.add_parser("down", help="end the local stack")
    down.set_defaults(run=run_down)
    for parser in (up, status, down):
        parser.add_argument(
            "--state-dir", type=Path, default=ROOT / "var" / "devnet", help="default: var/devnet"
        )


def run_up(chosen: argparse.Namespace) -> int:
    """Start it; 1 when it cannot start. A process that ends is started again, and said."""
    signal.signal(signal.SIGTERM, _end)
    stack = Stack(chosen.state_dir, Options(fixed_ports=True, keep_state=chosen.keep_state), _say)
    try:
        ends = stack.up()
        if not (stack.places.state / "keys").exists():
            asyncio.run(hand_out_keys(ends, stack.places.state))
        show_welcome(ends, stack.places, Console(soft_wrap=True))
        if chosen.detach:
            stack.detach()
            return 0
        print("Ctrl-C ends the stack.", flush=True)
        _hold(stack)
    except (StackError, StoryError) as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Ended):
        print("ending the stack", flush=True)
    finally:
        stack.stop()
    return 0


def run_status(chosen: argparse.Namespace) -> int:
    """One line per process; 1 when one of them is gone or there is no stack."""
    record = load_record(Places(state=chosen.state_dir.resolve()).record)
    if record is None:
        print("no stack runs here; `custody up` starts one")
        return 1
    for process in record.processes:
        print(f"{process.name:<20} {'runs' if process.alive() else 'GONE':<6} pid {process.pid}")
    _show(Places(state=chosen.state_dir.resolve()))
    return 0 if all(process.alive() for process in record.processes) else 1


def run_down(chosen: argparse.Namespace) -> int:
    """End it; 0 also when there was nothing to end."""
    places = Places(state=chosen.state_dir.resolve())
    record = load_record(places.record)
    if record is None:
        print("no stack runs here")
        return 0
    if record.supervisor is not None and record.supervisor.alive():
        _ask_supervisor(record.supervisor)
        return 0
    for name in end_leftovers(record):
        print(f"ended {name}")
    places.record.unlink(missing_ok=True)
    return 0


def _ask_supervisor(supervisor: RunningProcess) -> None:
    """Let the command that holds the stack end it, as Ctrl-C would; it may be in the middle of starting."""
    os.kill(supervisor.pid, signal.SIGTERM)
    while supervisor.alive():
        time.sleep(_LOOK_EVERY_S)
    print("the stack has ended")


def _hold(stack: Stack) -> None:
    while True:
        time.sleep(_LOOK_EVERY_S)
        for name in stack.ended():
            _say(f"{name} ended; starting it again")
            stack.start(name)


def _show(places: Places) -> None:
    record = load_record(places.record)
    for name, address in (record.urls if record else {}).items():
        print(f"{name:<20} {address}")
    print(f"{'configuration':<20} {places.config}", flush=True)


def _say(line: str) -> None:
    print(line, flush=True)


def _end(_number: int, _frame: FrameType | None) -> None:
    raise Ended
