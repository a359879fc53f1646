"""`custody demo`: the main job, end to end, on the local stack; the final table says whether the books are right."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli.welcome import show_welcome
from devnet.config import ROOT
from devnet.processes import StackError
from devnet.stack import Options, Stack
from devnet.story.client import Json, StoryError
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
        _, report = asyncio.run(play(ends, stack.places.state, _say))
        show_report(report)
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


def show_report(report: Json) -> None:
    """Every balance as the books and the outside have it."""
    table = Table(title="Books against chain and bank")
    for column in ("where", "asset"):
        table.add_column(column)
    for column in ("books", "outside", "difference"):
        table.add_column(column, justify="right")
    for row in report["rows"]:
        table.add_row(row["owner"], row["asset"], row["books"], row["outside"], row["difference"])
    _console.print(table)
    _console.print(f"breaks: {len(report['breaks'])}")


def _say(line: str) -> None:
    print(line, flush=True)
