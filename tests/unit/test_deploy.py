"""The signer's systemd unit: what its isolation rests on, and what systemd itself says of it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parent.parent.parent / "docs" / "deploy"
UNIT = DEPLOY / "custody-signer.service"
WORST_EXPOSURE = 15
"""Tenths, as `systemd-analyze security` counts: 0 is nothing, 100 is a service without any protection."""


def settings_of(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, mark, value = line.partition("=")
        if mark and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("User", "custody-signer"),
        ("NoNewPrivileges", "yes"),
        ("PrivateNetwork", "yes"),
        ("RestrictAddressFamilies", "AF_UNIX"),
        ("IPAddressDeny", "any"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("CapabilityBoundingSet", ""),
        ("MemoryDenyWriteExecute", "yes"),
        ("MemorySwapMax", "0"),
        ("LimitCORE", "0"),
        ("UMask", "0077"),
        ("StateDirectoryMode", "0700"),
    ],
)
def test_the_signer_is_shut_in(name: str, value: str) -> None:
    assert settings_of(UNIT)[name] == [value]


def test_the_unit_holds_no_secret_and_hands_over_the_pin_as_a_credential() -> None:
    settings = settings_of(UNIT)
    assert settings["LoadCredentialEncrypted"] == ["pin:/etc/custody-signer/pin.cred"]
    assert not {"Environment", "EnvironmentFile", "PassEnvironment", "SetCredential"} & settings.keys()


def test_evidence_that_does_not_agree_is_not_started_again() -> None:
    assert settings_of(UNIT)["RestartPreventExitStatus"] == ["2 3"]


def test_the_door_for_other_machines_opens_nothing_else() -> None:
    changed = settings_of(DEPLOY / "custody-signer-tls.conf")
    assert changed.keys() == {"PrivateNetwork", "RestrictAddressFamilies", "IPAddressAllow"}
    assert "any" not in changed["IPAddressAllow"][0].split()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_finds_nothing_wrong_and_little_exposed(tmp_path: Path) -> None:
    # The one line that names files of a real installation.
    text = UNIT.read_text()
    lines = ["ExecStart=/bin/true" if line.startswith("ExecStart=") else line for line in text.splitlines()]
    copy = tmp_path / UNIT.name
    copy.write_text("\n".join(lines) + "\n")
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    about_us = [line for line in verified.stderr.splitlines() if UNIT.name in line and "man:" not in line]
    assert about_us == []
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={WORST_EXPOSURE}", str(copy)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert judged.returncode == 0, judged.stdout
