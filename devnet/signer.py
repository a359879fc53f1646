"""What a ceremony gives the signer on a real site: a token, a policy and a configuration. Made by one program here."""

from __future__ import annotations

import json
import os
from pathlib import Path

from devnet.config import Places, create_approvers, policy_document
from devnet.secrets import write_private
from devnet.softhsm import Token, create_token
from devnet.users import SystemUser, give


def prepare_signer(places: Places, socket: Path, user: SystemUser | None) -> tuple[Path, Token]:
    """Everything in the signer's folder, owned by its user. Returns its configuration file and its token."""
    folder = places.signer
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = create_token(folder / "hsm", user)
    policy = folder / "policy.json"
    if not policy.exists():
        policy.write_bytes(policy_document(create_approvers(places)))
    config = folder / "signer.json"
    write_private(config, _config(folder, socket, policy, token))
    give(folder, user)
    return config, token


def _config(folder: Path, socket: Path, policy: Path, token: Token) -> str:
    return json.dumps(
        {
            "socket": str(socket),
            "journal": str(folder / "journal"),
            "policy": str(policy),
            "module": str(token.module),
            "token": token.label,
            "pin_file": str(token.pin_file),
            "requesters": [os.getuid()],
        },
        indent=2,
    )
