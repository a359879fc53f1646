"""How each process of the local stack is started: the simulated outside world and the product's own processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from devnet import probes
from devnet.config import EVM_CHAIN, ROOT, STELLAR_CHAIN, STELLAR_PASSPHRASE, Endpoints, Places
from devnet.processes import Probe, ProcessSpec
from devnet.softhsm import Token
from devnet.users import SystemUser, reachable, unprivileged

CALLBACK_PATH = "/v1/rails/sandbox/callbacks"
"""Where the API takes the sandbox bank's callbacks."""


def stellar_spec(places: Places, port: int, close_every_ms: int) -> ProcessSpec:
    """The local Stellar network, closing a ledger every so many milliseconds."""
    folder = places.state / "stellar"
    folder.mkdir(exist_ok=True)
    options = ("--port", str(port), "--passphrase", STELLAR_PASSPHRASE, "--state-dir", str(folder))
    return _module(
        "stellar",
        (
            "devnet.stellar.main",
            *options,
            "--close-every",
            f"{close_every_ms // 1000}.{close_every_ms % 1000:03}",
        ),
        {},
        probes.json_rpc_ok(port, "getHealth"),
    )


def bank_spec(places: Places, port: int, api_url: str) -> ProcessSpec:
    """The sandbox bank, which calls the API back."""
    folder = places.state / "bank"
    folder.mkdir(exist_ok=True)
    options = ("--port", str(port), "--callback-url", api_url + CALLBACK_PATH)
    files = ("--secret-file", str(places.bank_secret), "--state-dir", str(folder))
    return _module("bank", ("devnet.bank.main", *options, *files), {}, probes.tcp_open(port))


def signer_spec(config: Path, socket: Path, token: Token, user: SystemUser | None) -> ProcessSpec:
    """The signer. Its environment names its token and nothing else: no database, no network, no configuration of ours."""
    return _module(
        "signer",
        ("signer.main", "--config", str(config)),
        {"SOFTHSM2_CONF": str(token.conf)},
        probes.unix_socket_accepts(socket),
        user,
    )


def product_specs(places: Places, ends: Endpoints, api_port: int) -> list[ProcessSpec]:
    """The API, one ingestion worker per chain, the domain's worker and the rails worker."""
    env = {"CUSTODY_CONFIG": str(ends.config)}
    workers = {
        "ingestion-stellar": ("ingestion.main", "--chain", STELLAR_CHAIN),
        "ingestion-evm": ("ingestion.main", "--chain", EVM_CHAIN),
        "worker": ("custody.worker",),
        "rails": ("rails.worker",),
    }
    return [
        _module("api", ("api.main",), env, probes.http_ok(api_port, "/readyz")),
        *(
            _module(name, argv, env, probes.said_something(places.logs / f"{name}.log"))
            for name, argv in workers.items()
        ),
    ]


def signer_user() -> SystemUser | None:
    """An unprivileged user for the signer, when we are root and that user can reach the interpreter and the code."""
    user = unprivileged("daemon")
    if user is None:
        return None
    needed = (Path(sys.executable), Path(os.__file__), ROOT / "signer" / "__init__.py")
    return user if all(reachable(path, user) for path in needed) else None


def _module(
    name: str,
    argv: tuple[str, ...],
    env: dict[str, str],
    ready: Probe,
    user: SystemUser | None = None,
) -> ProcessSpec:
    base = {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
    if user is not None:
        base["PYTHONDONTWRITEBYTECODE"] = "1"
    return ProcessSpec(
        name=name, argv=(sys.executable, "-m", *argv), env=base | env, cwd=ROOT, ready=ready, user=user
    )
