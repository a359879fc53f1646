"""The `custody` command. Each subcommand lives in a module of its own, named like it, with one function `add_parser`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable

MODULES = ("up", "demo", "tenants", "approve", "recon", "audit")
"""Modules of `cli` that bring subcommands, in the order of the help text."""
DEVELOPMENT = ("up", "demo")
"""Those that need the local stack, which an installation on a real site does not hold."""


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; its exit code is ours. Without one, print what there is."""
    parser = argparse.ArgumentParser(
        prog="custody", description="Self-hosted custody for Stellar and EVM money."
    )
    subcommands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name in MODULES:
        if _installed(f"cli.{name}") and (name not in DEVELOPMENT or _installed("devnet")):
            importlib.import_module(f"cli.{name}").add_parser(subcommands)
    chosen = parser.parse_args(argv)
    if chosen.command is None:
        parser.print_help()
        return 2
    run: Callable[[argparse.Namespace], int] = chosen.run
    try:
        return run(chosen)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


if __name__ == "__main__":
    sys.exit(main())
