"""`custody demo`: the main job, end to end, on the local stack; the final table says whether the books are right."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from cli.welcome import show_welcome
from devnet.checker.main import check
from devnet.config import ROOT, Endpoints
from devnet.processes import StackError
from devnet.stack import Options, Stack
from devnet.story.cast import secret_of
from devnet.story.client import StoryError
from devnet.story.play import play

_console = Console(soft_wrap=True)


def add_parser(subcommands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subcommands.add_parser("demo", help="play the whole path of money on the local stack")
    parser.add_argument("--keep", action="store_true", help="leave the stack running; `custody down` ends it")
    parser.add_argument("--state-dir", type=Path, default=ROOT / "var" / "devnet", help="default: var/devnet")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """0 when every act went well and reconciliation found no break; 1 says what broke."""
    begun = time.monotonic()
    stack = Stack(chosen.state_dir, Options(fixed_ports=bool(chosen.keep)), _say)
    try:
        ends = stack.up()
        asyncio.run(play(ends, stack.places.state, _say))
        show_books(ends)
        check_chains(ends, stack.places.state)
        _say(f"books equal chain and bank; {time.monotonic() - begun:.0f} s in all")
        if chosen.keep:
            stack.detach()
            show_welcome(ends, stack.places, _console)
    except (StackError, StoryError) as error:
        print(f"demo: {error}", file=sys.stderr)
        print(f"demo: logs of every process are in {stack.places.logs}", file=sys.stderr)
        return 1
    finally:
        stack.stop()
    return 0


def show_books(ends: Endpoints) -> None:
    """Print `custody recon`'s table. Raises StoryError when it finds a break after all."""
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "recon"],
        cwd=ROOT,
        env={**os.environ, "CUSTODY_CONFIG": str(ends.config)},
        check=False,
    )
    if done.returncode != 0:
        raise StoryError("custody recon found a break in what had been equal a moment ago")


def check_chains(ends: Endpoints, state: Path) -> None:
    """Have the checker, which shares no code with the product, read both chains. Raises StoryError with what it finds wrong."""
    token = secret_of(state / "keys" / "app")
    found = check(
        api_url=ends.api_url, token=token, stellar_url=ends.stellar_rpc_url, evm_url=ends.evm_rpc_url
    )
    _say(found.show())
    if found.wrong:
        raise StoryError("; ".join(found.wrong))


def _say(line: str) -> None:
    print(line, flush=True)
