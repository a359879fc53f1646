"""Archiving in tests: the means, and what can be seen before and after."""

from __future__ import annotations

from pathlib import Path

import asyncpg

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.ledger import service as ledger
from custody.seals import archiving, execution, service
from custody.seals.archives import begin_of
from custody.seals.model import Archive, Verified
from custody.signing.checkpoints import message_of
from tests.fakes.checkpoint_desk import CheckpointDesk
from tests.fakes.passing_months import later
from tests.fakes.sealed_books import EUR, VAULTS, WALLETS, XLM


async def means_for(
    database: Database, admin: Database, signer: CheckpointDesk, tenant: TenantId, folder: Path
) -> archiving.Means:
    """Archiving into a folder, with the signer's keys trusted."""
    return archiving.Means(
        app=database,
        admin=admin,
        folder=folder,
        message=message_of,
        trusted=await execution.trusted_keys(database, signer, tenant),
        told=lambda _: None,
    )


async def archive(means: archiving.Means, months: int = 2) -> list[Archive]:
    """All months before the one so many after this, which has begun."""
    return await archiving.archive_before(means, later(months), begin_of(later(months)))


async def verify(database: Database, tenant: TenantId) -> Verified:
    """What verification of the database says; any key counts."""
    async with database.read(tenant) as session:
        return await service.verify(session, message_of, None)


async def figures(database: Database, tenant: TenantId) -> dict[object, tuple[int, int, int]]:
    """Balance, held amount and version of every account."""
    async with database.read(tenant) as session:
        found = [
            await ledger.balance(session, key)
            for asset in (XLM, EUR)
            for key in (VAULTS[asset], *WALLETS[asset])
        ]
    return {one.key: (one.posted, one.pending_out, one.version) for one in found}


async def partitions(admin_dsn: str) -> set[str]:
    """Names of the partitions that the ledger has."""
    connection = await asyncpg.connect(admin_dsn)
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'ledger_transfers'::regclass"
    )
    await connection.close()
    return {row["name"] for row in rows}
