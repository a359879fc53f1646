"""Real SoftHSM tokens for tests inside one process. A module reads its configuration once, so all tokens are made before."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from signer.hsm.module import find_tokens
from signer.hsm.sessions import SessionPool

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "271828182845"
LABELS = ("contract", "profile", "restored")


def init_token(configuration: Path, label: str) -> None:
    """Create an empty token in the store of this SoftHSM configuration."""
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "31415926", "--pin", PIN],
        env={**os.environ, "SOFTHSM2_CONF": str(configuration)},
        check=True,
        capture_output=True,
    )


def write_configuration(directory: Path) -> Path:
    """Write the SoftHSM configuration of a token store in this directory; return its path."""
    tokens = directory / "tokens"
    tokens.mkdir()
    configuration = directory / "softhsm2.conf"
    configuration.write_text(
        f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n"
    )
    return configuration


def pool_on(label: str) -> SessionPool:
    """The pool on one of LABELS; skips the test where SoftHSM is not installed."""
    if not MODULE.exists():
        pytest.skip("needs softhsm2")
    return _pools()[label]


@cache
def _pools() -> dict[str, SessionPool]:
    configuration = write_configuration(Path(tempfile.mkdtemp(prefix="custody-softhsm-")))
    for label in LABELS:
        init_token(configuration, label)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(configuration))
        tokens = find_tokens(MODULE, "", LABELS)
    return {label: SessionPool(token, PIN, 2) for label, token in zip(LABELS, tokens, strict=True)}
