"""A SoftHSM token that stands in for a hardware HSM: real PKCS#11, keys in files. For development and tests only."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from devnet.processes import StackError
from devnet.secrets import secret_file, write_private
from devnet.users import SystemUser, give

_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
"""Where Debian, Fedora and Homebrew put the PKCS#11 module."""
MAKE_TOKEN = Path(__file__).resolve().parent.parent / "docker" / "make-token.py"
"""Shared with the signer's test image."""
MISSING = "SoftHSM is missing: install it with `apt-get install softhsm2` (Debian, Ubuntu) or `brew install softhsm` (macOS)."


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An initialised token and what the signer needs to open it."""

    module: Path
    """The PKCS#11 library."""
    label: str
    pin_file: Path
    """Holds the user PIN, readable by the signer's user only."""
    conf: Path
    """The value of SOFTHSM2_CONF."""


def create_token(folder: Path, user: SystemUser | None = None, label: str = "custody") -> Token:
    """The token in this folder, initialised when it is new. Files belong to `user`. Raises StackError."""
    module = find_module()
    if module is None or shutil.which("softhsm2-util", path=_search_path()) is None:
        raise StackError(MISSING)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    tokens, conf, pin_file = folder / "tokens", folder / "softhsm2.conf", folder / "pin"
    token = Token(module=module, label=label, pin_file=pin_file, conf=conf)
    if tokens.exists() and any(tokens.iterdir()):
        return token
    tokens.mkdir(mode=0o700, exist_ok=True)
    lines = [
        f"directories.tokendir = {tokens}",
        "objectstore.backend = file",
        "log.level = ERROR",
        "slots.removable = false",
    ]
    write_private(conf, "\n".join(lines) + "\n", user)
    so_pin_file = folder / "so-pin"
    for secret in (pin_file, so_pin_file):
        secret_file(secret, user)
    # The PINs go by file and terminal, so that no list of processes shows them.
    done = subprocess.run(
        [sys.executable, "-I", str(MAKE_TOKEN), label, str(pin_file), str(so_pin_file)],
        env={"SOFTHSM2_CONF": str(conf), "PATH": _search_path()},
        capture_output=True,
        text=True,
        check=False,
    )
    give(folder, user)
    if done.returncode != 0:
        raise StackError(f"softhsm2-util could not make a token: {(done.stderr or done.stdout).strip()}")
    return token


def find_module() -> Path | None:
    """The SoftHSM library of this system."""
    return next((Path(path) for path in _MODULES if Path(path).exists()), None)


def _search_path() -> str:
    extra = ["/opt/homebrew/bin", "/usr/local/bin"] if sys.platform == "darwin" else ["/usr/local/bin"]
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *extra])
