"""The signer process: `python -m signer.main --config FILE`.

Hardens itself, logs into the token, holds journal against anchor and policy, then serves. Exit codes: 0 told to stop,
2 something is missing or misconfigured (one sentence says what), 3 the evidence does not agree and nothing is signed.
"""

import argparse
import ctypes
import os
import resource
import signal
import stat
import sys
import time
from functools import partial
from pathlib import Path

from signer.config import Config, ConfigFault, HsmConfig, PinDescriptor, load_config
from signer.decide import Decider
from signer.hsm.keys import KeyStore
from signer.hsm.module import find_token
from signer.hsm.objects import AnchorObject, MacKey
from signer.hsm.sessions import SessionPool
from signer.log import log_event
from signer.record import Record
from signer.refusal import EvidenceFault, HsmFault, Refusal, StartupFault
from signer.server import Server, answer

PR_SET_DUMPABLE = 4
PIN_MAX = 255


def main(argv: list[str]) -> int:
    """Run the signer until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="signer", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="TOML file; see signer.example.toml")
    arguments = parser.parse_args(argv)
    try:
        harden()
        run(load_config(arguments.config))
    except (ConfigFault, StartupFault) as fault:
        sys.stderr.write(f"signer: {fault}\n")
        return 2
    except HsmFault as fault:
        sys.stderr.write(f"signer: the HSM failed at start: {fault}\n")
        return 2
    except EvidenceFault as fault:
        sys.stderr.write(f"signer: refusing to start: {fault}\n")
        return 3
    return 0


def harden() -> None:
    """Leave no memory behind: no core dumps, no debugger, no readable files."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise StartupFault("the kernel refuses PR_SET_DUMPABLE")


def run(config: Config) -> None:
    """Open everything, serve, close everything."""
    policy = _read_policy(config.policy)
    pool = open_pool(config.hsm)
    record = Record.open(
        directory=config.journal_dir,
        mac=MacKey(pool),
        store=AnchorObject(pool),
        policy=policy,
        clock=lambda: int(time.time()),
    )
    try:
        serve(config, Decider(record, KeyStore(pool)))
    finally:
        record.close()


def serve(config: Config, decider: Decider) -> None:
    """Serve until a signal asks to stop."""
    try:
        health = decider.health()
    except Refusal as refusal:
        raise EvidenceFault(refusal.text) from refusal
    server = Server(config, partial(answer, decider))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: server.stop())
    log_event(
        "signer.ready", policy_version=health.policy_version, entries=health.journal_count, keys=health.keys
    )
    server.serve()
    log_event("signer.stopped")


def open_pool(config: HsmConfig) -> SessionPool:
    """Log into the token; the PIN lives no longer than this call. Raises StartupFault."""
    token = find_token(config.module, config.module_sha256, config.token)
    return SessionPool(token, _read_pin(config), config.sessions)


def _read_pin(config: HsmConfig) -> str:
    if isinstance(config.pin, PinDescriptor):
        try:
            with os.fdopen(config.pin.number, "rb") as stream:
                raw = stream.read(PIN_MAX + 1)
        except OSError as error:
            raise StartupFault(
                "the PIN's file descriptor cannot be read; pass it open to the signer"
            ) from error
    else:
        raw = _read_pin_file(config.pin.path)
    pin = raw.decode("ascii", errors="ignore").rstrip("\n")
    if not pin or len(raw) > PIN_MAX or len(pin) + raw.count(b"\n") != len(raw) or not pin.isprintable():
        raise StartupFault("the PIN file is empty or does not hold one short line")
    return pin


def _read_pin_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or status.st_uid not in (0, os.getuid()):
                raise StartupFault(
                    f"the PIN file {path} must be readable by the signer's user only: chmod 600"
                )
            return stream.read(PIN_MAX + 1)
    except OSError as error:
        raise StartupFault(f"the PIN file {path} cannot be read: {error.strerror}") from error


def _read_policy(path: Path) -> bytes | None:
    """Return the document, None when there is no file: after the first start the policy is the journal's."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StartupFault(f"the policy file {path} cannot be read: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
