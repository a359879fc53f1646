"""What a ceremony gives the signer on a real site: a token, a policy and a configuration. Made by one program here."""

from __future__ import annotations

import os
from pathlib import Path

from devnet.config import STELLAR_PASSPHRASE, Places, create_approvers
from devnet.policy import policy_document
from devnet.secrets import write_private
from devnet.softhsm import Token, create_token
from devnet.users import SystemUser, give


def prepare_signer(
    places: Places, socket: Path, user: SystemUser | None, *, automatic: bool = False
) -> tuple[Path, Token]:
    """Everything in the signer's folder, owned by its user. Returns its configuration file and its token."""
    folder = places.signer
    journal = folder / "journal"
    journal.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    give(folder, user)
    token = create_token(folder / "hsm", user)
    policy = folder / "policy.json"
    if not policy.exists():
        write_private(
            policy, policy_document(create_approvers(places), STELLAR_PASSPHRASE, automatic=automatic)
        )
    config = folder / "signer.toml"
    document = signer_config(
        socket=socket,
        journal=journal,
        policy=policy,
        module=token.module,
        token=token.label,
        pin_file=token.pin_file,
        peer_uid=os.getuid(),
    )
    write_private(config, document)
    give(folder, user)
    return config, token


def signer_config(
    *, socket: Path, journal: Path, policy: Path, module: Path, token: str, pin_file: Path, peer_uid: int
) -> str:
    """The signer's TOML file, with one peer that may do everything a peer may do."""
    lines = [
        "# Written by the local stack. Development only.",
        f'socket = "{socket}"',
        'socket_mode = "0600"',
        f'journal_dir = "{journal}"',
        f'policy = "{policy}"',
        *("", "[hsm]", f'module = "{module}"', 'module_sha256 = ""', f'token = "{token}"'),
        *(f'pin_file = "{pin_file}"', "sessions = 2", "ceremony_keys = []"),
        *("", "[limits]", "connections = 32", "request_s = 10", "idle_s = 300"),
        *("", "[[peers]]", f"uid = {peer_uid}", 'roles = ["requester", "operator", "observer"]'),
    ]
    return "\n".join(lines) + "\n"
