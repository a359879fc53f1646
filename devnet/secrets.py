"""Secrets of the local stack: made once per state directory, each in a file that only its owner reads.

They protect nothing of worth, but the product must meet real passwords and PINs, and no default must exist to be forgotten.
"""

import os
import secrets
from pathlib import Path

from devnet.users import SystemUser


def secret_file(path: Path, user: SystemUser | None = None, *, length: int = 32) -> str:
    """The secret in this file, made first when the file does not exist. Readable by its owner alone (mode 0600)."""
    if path.exists():
        return path.read_text(encoding="ascii")
    value = secrets.token_hex(length // 2)
    write_private(path, value, user)
    return value


def write_private(path: Path, text: str, user: SystemUser | None = None) -> None:
    """Write a file that only its owner reads; it never exists with wider rights, not even for a moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        if user is not None:
            os.fchown(descriptor, user.uid, user.gid)
        file.write(text)
