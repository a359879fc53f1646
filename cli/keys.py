"""`custody keys`: see the signer's keys, make one, back wrapped ones up, take keys into use; and key ceremonies, offline.

Who runs it needs a role with the signer: its user id, in the signer's configuration. Nothing here touches the database.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from rich.table import Table

from cli.figures import figures_console
from cli.platform import FAILED, run_on_platform
from custody import settings
from custody.kernel.errors import InvalidInput
from custody.kernel.ids import TenantId
from custody.signing.errors import SignerRefused, SignerUndecided
from custody.signing.keys import KeyDesk
from custody.signing.model import HeldKey, WrappedCopy
from signer.ceremony.main import add_steps

Step = Callable[[KeyDesk, argparse.Namespace], Coroutine[Any, Any, int]]
BACKUP_FORMAT = "custody-wrapped-keys-v1"
CURVES = ("ed25519", "secp256k1")


class NoBackup(InvalidInput):
    """The file is not one that `custody keys backup` has written."""

    code = "no_backup"
    public = "The file is not a backup of wrapped keys."


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("keys", help="the signer's keys, and key ceremonies")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    listed = _online(verbs, "list", "list a tenant's keys", list_keys)
    _add_tenant(listed)
    listed.add_argument("--json", action="store_true", help="print JSON instead of a table")
    shown = _online(verbs, "show", "show one key", show_key)
    shown.add_argument("key_id", metavar="KEY_ID")
    made = _online(verbs, "create", "let a key be born in the HSM", create_key)
    _add_tenant(made)
    _add_name(made)
    made.add_argument("--storage", choices=("token", "wrapped"), default="token")
    made.add_argument("--request-id", type=UUID, metavar="UUID", help="the same again makes no second key")
    saved = _online(verbs, "backup", "write a tenant's wrapped keys to a file", backup_keys)
    _add_tenant(saved)
    saved.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    back = _online(verbs, "restore", "take the keys of a backup into use", restore_keys)
    _add_tenant(back)
    back.add_argument("file", type=Path, metavar="FILE")
    admitted = _online(verbs, "admit", "take a key of a ceremony into use", admit_key)
    _add_tenant(admitted)
    _add_name(admitted)
    admitted.add_argument("--key-id", required=True, metavar="HEX", help="as the ceremony printed it")
    admitted.add_argument("--public-key", required=True, type=bytes.fromhex, metavar="HEX")
    add_steps(verbs.add_parser("ceremony", help="make, share and restore keys, offline"))


def _online(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_: str, step: Step
) -> argparse.ArgumentParser:
    """A verb that asks a running signer."""
    parser = verbs.add_parser(name, help=help_)
    parser.add_argument("--socket", metavar="PATH", help="the signer's socket; otherwise as configured")
    parser.set_defaults(run=lambda chosen: run_on_platform(_ask(step, chosen), "keys"))
    return parser


async def _ask(step: Step, chosen: argparse.Namespace) -> int:
    """Take the step; the signer's own word for a refusal is what an operator needs."""
    try:
        return await step(_desk(chosen), chosen)
    except (SignerRefused, SignerUndecided) as error:
        reason, text = error.values["reason"], error.values["text"]
        print(f"custody keys: the signer refuses: {reason}: {text}", file=sys.stderr)
        return FAILED


def _add_tenant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", type=int, required=True, help="the tenant's number")


def _add_name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--vault", required=True, help="purpose of the vaults that it serves, e.g. omnibus")
    parser.add_argument("--curve", choices=CURVES, required=True, help="ed25519: Stellar, secp256k1: EVM")
    parser.add_argument("--label", required=True, help="a name of at most 64 characters")


async def list_keys(desk: KeyDesk, chosen: argparse.Namespace) -> int:
    """Print every key of the tenant."""
    keys = await desk.list_keys(TenantId(chosen.tenant))
    if chosen.json:
        print(json.dumps([asdict(key) for key in keys], indent=2))
    else:
        _print_table(keys)
    return 0


async def show_key(desk: KeyDesk, chosen: argparse.Namespace) -> int:
    """Print one key's fields, one a line."""
    _print_key(await desk.find_key(chosen.key_id))
    return 0


async def create_key(desk: KeyDesk, chosen: argparse.Namespace) -> int:
    """Have the key made and print it."""
    key = await desk.make_key(
        request_id=chosen.request_id or uuid4(),
        tenant=TenantId(chosen.tenant),
        vault=chosen.vault,
        curve=chosen.curve,
        label=chosen.label,
        storage=chosen.storage,
    )
    _print_key(key)
    return 0


async def admit_key(desk: KeyDesk, chosen: argparse.Namespace) -> int:
    """Have the signer take the token's key into use and print it."""
    key = await desk.admit_key(
        tenant=TenantId(chosen.tenant),
        key_id=chosen.key_id,
        vault=chosen.vault,
        curve=chosen.curve,
        label=chosen.label,
        public_key=chosen.public_key,
        blob=b"",
    )
    _print_key(key)
    return 0


async def backup_keys(desk: KeyDesk, chosen: argparse.Namespace) -> int:
    """Write the tenant's wrapped keys; they are worthless to whoever has not the wrapping key's shares."""
    copies = await desk.export_keys(TenantId(chosen.tenant))
    lines = [{"format": BACKUP_FORMAT}, *(_dump(copy) for copy in copies)]
    descriptor = os.open(chosen.out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
        stream.flush()
        os.fsync(stream.fileno())
    print(f"{len(copies)} wrapped keys written to {chosen.out}")
    return 0


async def restore_keys(desk: KeyDesk, chosen: argparse.Namespace) -> int:
    """Bring each key of the backup to the signer, whose token must hold the wrapping key. May be run again."""
    copies = _read(chosen.file)
    for copy in copies:
        await desk.admit_key(
            tenant=TenantId(chosen.tenant),
            key_id=copy.key_id,
            vault=copy.vault,
            curve="secp256k1",
            label=copy.label,
            public_key=copy.public_key,
            blob=copy.blob,
        )
    print(f"{len(copies)} wrapped keys are in use")
    return 0


def _desk(chosen: argparse.Namespace) -> KeyDesk:
    if chosen.socket is not None:
        return KeyDesk(chosen.socket)
    configured = settings.load().signer
    return KeyDesk(str(configured.socket), timeout_s=configured.timeout_s)


def _print_table(keys: Sequence[HeldKey]) -> None:
    table = Table()
    for heading in ("Key", "Vault", "Curve", "State", "Kept", "Origin", "Account", "Label"):
        table.add_column(heading, overflow="fold")
    for key in keys:
        cells = (key.key_id, key.vault, key.curve, key.state, key.storage, key.origin, key.account, key.label)
        table.add_row(*cells)
    figures_console().print(table)
    print(f"{len(keys)} keys")


def _print_key(key: HeldKey) -> None:
    for name, value in asdict(key).items():
        print(f"{name:10} {value}")


def _dump(copy: WrappedCopy) -> dict[str, str]:
    return {
        "key_id": copy.key_id,
        "vault": copy.vault,
        "label": copy.label,
        "public_key": copy.public_key.hex(),
        "blob": copy.blob.hex(),
    }


def _read(path: Path) -> list[WrappedCopy]:
    try:
        first, *rest = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
        if first != {"format": BACKUP_FORMAT}:
            raise NoBackup(file=str(path))
        return [
            WrappedCopy(
                key_id=line["key_id"],
                vault=line["vault"],
                label=line["label"],
                public_key=bytes.fromhex(line["public_key"]),
                blob=bytes.fromhex(line["blob"]),
            )
            for line in rest
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise NoBackup(file=str(path)) from error
