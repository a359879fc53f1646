"""Run the local Stellar network: `python -m devnet.stellar.main --port 8000 --state-dir var/stellar`.

For development and tests only: one process without consensus, whose keys anyone can derive from the passphrase.
With --state-dir the chain goes on where it was, also after kill -9.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from devnet.stellar.network import DEVNET_PASSPHRASE, NOTICE, LocalNetwork
from devnet.stellar.server import bind, make_server, run, url_of
from devnet.stellar.store import StateDirUnusable


def main(argv: list[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM. Returns 2, with one sentence, when it cannot start."""
    args = _parser().parse_args(argv)
    if args.close_every <= 0:
        return _refuse("--close-every must be more than 0 seconds")
    try:
        sock = bind(args.host, args.port)
    except OSError as error:
        return _refuse(f"cannot listen on {args.host}:{args.port} ({error.strerror}); choose another --port")
    close_every_s = None if args.manual else args.close_every
    try:
        network = LocalNetwork(
            passphrase=args.passphrase,
            state_dir=args.state_dir,
            # The real rule of ever-growing close times, kept wherever it does not outrun the clock.
            strict_close_time=close_every_s is not None and close_every_s >= 1,
        )
    except StateDirUnusable as error:
        return _refuse(str(error))
    mode = "closes by call only" if close_every_s is None else f"closes every {close_every_s} s"
    print(
        f"stellar devnet at {url_of(sock)}, ledger {network.latest.sequence}, {mode} ({NOTICE})", flush=True
    )
    server = make_server(network, sock, manual=args.manual)
    asyncio.run(run(network, server, sock, close_every_s))
    network.shut_down()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="devnet.stellar", description="Local Stellar network for development."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free port, printed at the start")
    parser.add_argument("--passphrase", default=DEVNET_PASSPHRASE)
    parser.add_argument("--state-dir", type=Path, help="keep closed ledgers here and continue from them")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--close-every", type=float, default=1.0, help="seconds between ledgers")
    pace.add_argument("--manual", action="store_true", help="close only on POST /devnet/close or friendbot")
    return parser


def _refuse(sentence: str) -> int:
    print(f"stellar devnet: {sentence}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
