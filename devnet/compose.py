"""Makes what docker-compose.yml reads and no repository may hold: passwords, approvers' keys and the signer's policy.

`python -m devnet.compose` writes them to var/compose; repeating it keeps what is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from devnet.config import ROOT, Places, create_approvers, write_bank_secret
from devnet.policy import policy_document
from devnet.secrets import secret_file, write_private

STELLAR_PASSPHRASE = "Standalone Network ; February 2017"
"""Of the Stellar quickstart image's local network."""


def main() -> int:
    """Write everything; print where the approvers' keys are."""
    folder = ROOT / "var" / "compose"
    write_compose_files(folder)
    print(f"{folder}: passwords, policy.json and the approvers' keys (approvers/NAME.pem)")
    print(f"next: docker compose --env-file {folder / 'env'} up --build")
    return 0


def write_compose_files(folder: Path) -> None:
    """The files below `folder`, made once."""
    places = Places(state=folder.resolve())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    postgres = secret_file(folder / "postgres.password")
    app = secret_file(folder / "app.password")
    write_bank_secret(places)
    bank = places.bank_secret.read_text(encoding="ascii")
    write_private(folder / "admin.dsn", f"postgresql://postgres:{postgres}@postgres:5432/custody")
    write_private(folder / "env", f"APP_PASSWORD={app}\nBANK_SECRET={bank}\n")
    policy = folder / "policy.json"
    if not policy.exists():
        policy.write_text(policy_document(create_approvers(places), STELLAR_PASSPHRASE), encoding="ascii")
    # Mounted into containers whose users are not ours; the folder above keeps other users of this machine out.
    for name in ("policy.json", "postgres.password", "admin.dsn", "app.password", "bank.secret"):
        (folder / name).chmod(0o644)


if __name__ == "__main__":
    sys.exit(main())
