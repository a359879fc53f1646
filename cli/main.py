"""The `custody` command. Each subcommand lives in a module of its own with one function `add_parser`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable

from cli.reader import ReaderGone

COMMANDS = {
    "up": "up",
    "status": "up",
    "down": "up",
    "demo": "demo",
    "tenants": "tenants",
    "approve": "approve",
    "keys": "keys",
    "policy": "policy",
    "ingest": "ingest",
    "vaults": "vaults",
    "addresses": "addresses",
    "cases": "cases",
    "address-book": "outgoing",
    "refused": "outgoing",
    "cool-down": "outgoing",
    "webhooks": "webhooks",
    "recon": "recon",
    "audit": "audit",
    "ledger": "ledger",
    "treasury": "treasury",
    "stop": "switches",
    "resume": "switches",
    "switches": "switches",
}
"""Subcommand to the module of `cli` that brings it, in the order of the help text."""
DEVELOPMENT = frozenset({"up", "demo"})
"""Modules that need the local stack, which an installation on a real site does not hold."""


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand; its exit code is ours. Without one, print what there is."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="custody", description="Self-hosted custody for Stellar and EVM money."
    )
    subcommands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for module in modules_for(words):
        importlib.import_module(f"cli.{module}").add_parser(subcommands)
    chosen = parser.parse_args(words)
    if chosen.command is None:
        parser.print_help()
        return 2
    run: Callable[[argparse.Namespace], int] = chosen.run
    try:
        code = run(chosen)
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGone):
        # Whoever read the output has closed it, as `head` does. What is left must not be written to a closed pipe at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return code


def modules_for(words: list[str]) -> list[str]:
    """The one module that brings the wanted subcommand, so that a command starts fast; all that are installed for the help."""
    wanted = (
        [COMMANDS[words[0]]] if words and words[0] in COMMANDS else list(dict.fromkeys(COMMANDS.values()))
    )
    return [
        name
        for name in wanted
        if _installed(f"cli.{name}") and (name not in DEVELOPMENT or _installed("devnet"))
    ]


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


if __name__ == "__main__":
    sys.exit(main())
