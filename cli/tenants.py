"""`custody tenants`: create tenants and issue API keys. For operators on a machine that holds the product's configuration.

A key's secret is written to a file that only its owner can read; it is never printed and never an argument.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import timedelta
from pathlib import Path

from cli import people
from cli.platform import run_on_platform
from custody import bootstrap, settings
from custody.identity import api_keys
from custody.identity import service as identity
from custody.identity.model import SCOPES
from custody.identity.roles import ROLES
from custody.kernel.errors import CustodyError
from custody.kernel.ids import TenantId, show_id


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("tenants", help="create tenants and issue API keys")
    verbs = parser.add_subparsers(dest="verb", required=True)
    create = verbs.add_parser("create", help="create a tenant, or find it by its name")
    create.add_argument("name")
    create.set_defaults(run=lambda chosen: run_on_platform(create_tenant(chosen.name), "tenants"))
    verbs.add_parser("list", help="list the tenants").set_defaults(
        run=lambda _: run_on_platform(list_tenants(), "tenants")
    )
    key = verbs.add_parser("issue-key", help="issue an API key into a file")
    key.add_argument("--tenant", type=int, required=True, help="the tenant's number")
    key.add_argument("--subject", required=True, help="the person or machine that the key speaks for")
    key.add_argument(
        "--role", choices=tuple(ROLES), action="append", default=[], help="may be given several times"
    )
    key.add_argument(
        "--scope", choices=SCOPES, action="append", default=[], help="old name of a group of roles; the same"
    )
    key.add_argument("--days", type=int, help="after how many days it ends; without it, never")
    key.add_argument("--out", type=Path, required=True, help="file for the secret; must not exist")
    key.set_defaults(
        run=lambda chosen: run_on_platform(
            issue_key(
                TenantId(chosen.tenant), chosen.subject, chosen.scope, chosen.role, chosen.days, chosen.out
            ),
            "tenants",
        )
    )
    people.add_verbs(verbs)


async def create_tenant(name: str) -> int:
    """Print the tenant's number as JSON. Idempotent by name."""
    app = bootstrap.build(settings.load())
    try:
        async with app.db.unit_of_work(None) as uow:
            tenant = await identity.create_tenant(uow, name)
    finally:
        await app.aclose()
    print(json.dumps({"tenant": tenant, "name": name}))
    return 0


async def list_tenants() -> int:
    """Print every tenant's number as JSON."""
    app = bootstrap.build(settings.load())
    try:
        async with app.db.read(None) as session:
            tenants = await identity.list_tenants(session)
    finally:
        await app.aclose()
    print(json.dumps({"tenants": tenants}))
    return 0


async def issue_key(
    tenant: TenantId, subject: str, scopes: list[str], roles: list[str], days: int | None, out: Path
) -> int:
    """Write a new key's secret to `out` (mode 0600) and print the key's id. 2 when the file exists or the tenant does not."""
    app = bootstrap.build(settings.load())
    try:
        async with app.db.unit_of_work(tenant) as uow:
            if tenant not in await identity.list_tenants(uow):
                print(f"there is no tenant {tenant}")
                return 2
            issued = await api_keys.issue_by_operator(
                uow,
                f"operator:uid-{os.getuid()}",
                subject=subject,
                scopes=scopes,
                roles=roles,
                lifetime=None if days is None else timedelta(days=days),
                now=app.clock.now(),
            )
            # Inside the transaction: a file that cannot be written must leave no key behind.
            write_secret(out, issued.secret)
    except (OSError, CustodyError) as error:
        print(f"no key was issued: {error}")
        return 2
    finally:
        await app.aclose()
    print(json.dumps({"key": show_id("key", issued.id), "subject": subject, "file": str(out)}))
    return 0


def write_secret(path: Path, secret: str) -> None:
    """A new file that only its owner can read. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(secret + "\n")
