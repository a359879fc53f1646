"""The signer process: `python -m signer.main --config FILE`.

Hardens itself, logs into the token, holds journal against anchor and policy, then serves. Exit codes: 0 told to stop,
2 something is missing or misconfigured (one sentence says what), 3 the evidence does not agree and nothing is signed.
"""

import argparse
import gc
import signal
import sys
import time
from functools import partial
from pathlib import Path

from signer.admission import wrapping_keys
from signer.answers import answer
from signer.config import Config, ConfigFault, HsmConfig, load_config
from signer.decide import Decider
from signer.doors import Door, TlsDoor, UnixDoor
from signer.hsm.keys import KeyStore
from signer.hsm.module import find_token
from signer.hsm.objects import AnchorObject, MacKey
from signer.hsm.sessions import SessionPool
from signer.log import log_event
from signer.process import harden, read_pin
from signer.record import Record
from signer.refusal import EvidenceFault, HsmFault, KeyFault, Refusal, StartupFault
from signer.server import Server

_COLLECT_AFTER = 20_000, 50, 1000
"""New objects after which the collector looks through them; how often it looks further is counted in such looks."""

_WORKERS_MIN = 2
"""So that one may decide while the other waits for disk or token."""


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
    # What was recalled stays for life: the collector need not look through it again and again.
    gc.freeze()
    # Requests leave facts behind and hardly a cycle: looking for cycles every 700 objects is a fourteenth of all work.
    gc.set_threshold(*_COLLECT_AFTER)
    try:
        keys = KeyStore(pool, config.hsm.ceremony_keys)
        _check_wrapping_key(keys, wrapping_keys(record.state))
        serve(config, Decider(record, keys, config.hsm.ceremony_keys))
    finally:
        record.close()


def serve(config: Config, decider: Decider) -> None:
    """Serve until a signal asks to stop."""
    try:
        health = decider.health()
    except Refusal as refusal:
        raise EvidenceFault(refusal.text) from refusal
    server = Server(
        config.limits,
        max(config.hsm.sessions, _WORKERS_MIN),
        open_doors(config),
        partial(answer, decider),
        decider.sign_all,
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: server.stop())
    log_event(
        "signer.ready",
        policy_version=health.policy_version,
        entries=health.journal_count,
        head=health.journal_head,
        policy_hash=health.policy_hash,
        keys=health.keys,
    )
    server.serve()
    log_event("signer.stopped")


def open_doors(config: Config) -> list[Door]:
    """Bind the sockets. Raises StartupFault."""
    doors: list[Door] = [UnixDoor(config.socket, config.socket_mode, config.limits.connections, config.peers)]
    if config.tls is not None:
        try:
            doors.append(TlsDoor(config.tls, config.limits.request_s))
        except StartupFault:
            doors[0].close()
            raise
    return doors


def _check_wrapping_key(keys: KeyStore, needed: frozenset[bytes]) -> None:
    """Raise StartupFault unless the wrapped keys of the journal can sign with this token."""
    if needed:
        try:
            keys.check_wrapping_key(needed)
        except KeyFault as fault:
            raise StartupFault(f"the journal has wrapped keys that this token cannot use: {fault}") from fault


def open_pool(config: HsmConfig) -> SessionPool:
    """Log into the token; the PIN lives no longer than this call. Raises StartupFault."""
    token = find_token(config.module, config.module_sha256, config.token)
    return SessionPool(token, read_pin(config.pin), config.sessions)


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
