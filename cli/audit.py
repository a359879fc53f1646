"""`custody audit verify`: re-derive every tenant's audit chain and name the first entry that does not follow."""

from __future__ import annotations

import argparse
import asyncio
import sys

from custody import bootstrap, settings
from custody.audit import service as audit
from custody.identity import service as identity


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("audit", help="check the audit log")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verify = verbs.add_parser("verify", help="re-derive the hash chain of every tenant's audit log")
    verify.set_defaults(run=lambda _: asyncio.run(verify_all()))


async def verify_all() -> int:
    """0 when every chain verifies; 1 names the tenant and the first bad entry."""
    app = bootstrap.build(settings.load())
    broken = 0
    try:
        async with app.db.read(None) as session:
            tenants = await identity.list_tenants(session)
        for tenant in tenants:
            async with app.db.read(tenant) as session:
                try:
                    print(f"tenant {tenant}: {await audit.verify(session)} entries verify")
                except audit.AuditChainBroken as error:
                    broken += 1
                    print(f"tenant {tenant}: {error}", file=sys.stderr)
    finally:
        await app.aclose()
    return 1 if broken else 0
