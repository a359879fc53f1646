"""Starts the sandbox bank: `python -m devnet.bank.main --port P --callback-url URL --secret-file F --state-dir D`."""

from __future__ import annotations

import argparse
import sys
from datetime import timedelta
from pathlib import Path

import uvicorn

from devnet.bank.app import build_app
from devnet.bank.bank import Bank
from devnet.bank.book import Journal
from devnet.bank.callbacks import Notifier


def main() -> int:
    """Serve until SIGTERM. Returns 2 when the secret file is missing."""
    options = _options()
    if not options.secret_file.is_file():
        print(
            f"{options.secret_file} is missing: write a webhook secret (whsec_ and base64) into it",
            file=sys.stderr,
        )
        return 2
    secret = options.secret_file.read_text().strip()
    journal = Journal(options.state_dir / "bank.jsonl")
    bank = Bank(journal, timedelta(milliseconds=options.settle_ms))
    app = build_app(
        bank,
        Notifier(bank, options.callback_url, secret),
        stall=timedelta(milliseconds=options.stall_ms),
        tick=timedelta(milliseconds=20),
    )
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", timeout_graceful_shutdown=1)
    journal.close()
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="devnet-bank", description="A sandbox bank for development.")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to bind; others than this one only in a closed network"
    )
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--callback-url", required=True, help="where signed callbacks go")
    parser.add_argument("--secret-file", type=Path, required=True, help="holds whsec_<base64>")
    parser.add_argument("--state-dir", type=Path, required=True, help="holds the journal; survives restarts")
    parser.add_argument("--settle-ms", type=int, default=300, help="delay of each step after acceptance")
    parser.add_argument("--stall-ms", type=int, default=30_000, help="delay of an answer that comes too late")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
