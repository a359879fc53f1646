"""How alembic runs: as `custody_owner`, under a lock timeout, one transaction for all of it."""

from __future__ import annotations

import asyncio
import importlib

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from custody.db.base import metadata
from custody.db.session import driver_url

TABLE_MODULES = (
    "custody.identity.tables",
    "custody.assets.tables",
    "custody.idempotency.tables",
    "custody.events.tables",
    "custody.audit.tables",
    "custody.ledger.tables",
    "custody.wallets.tables",
    "custody.exchanges.tables",
    "custody.holdings.tables",
    "custody.policy.tables",
    "custody.adjustments.tables",
    "custody.approvals.tables",
    "custody.banking.tables",
    "custody.screening.tables",
    "custody.address_book.tables",
    "custody.switches.tables",
    "custody.deposits.tables",
    "custody.tariffs.tables",
    "custody.withdrawals.tables",
    "custody.withdrawals.batch_tables",
    "custody.withdrawals.cooling_tables",
    "custody.payouts.tables",
    "custody.receipts.tables",
    "custody.recon.tables",
    "custody.seals.tables",
    "custody.transfers.tables",
    "custody.treasury.tables",
    "custody.webhooks.tables",
    "ingestion.tables",
)
"""Every module that registers tables. By name, because custody does not import ingestion: the migrations only describe it."""


FOREIGN_INDEXES = frozenset({"ix_ledger_batches_xid"})
"""Indexes that one context needs on another's table, which does not know of it: the sealer's (0009)."""


PARTITIONS = "ledger_transfers_"
"""What the names of partitions begin with. The database makes them; the metadata knows the whole table only."""


def _is_compared(name: str, kind: str) -> bool:
    return not (kind == "table" and name.startswith(PARTITIONS)) and not (
        kind == "index" and name in FOREIGN_INDEXES
    )


def load_tables() -> None:
    """Import what registers tables, so that `alembic check` sees all of them. A module that is missing ends the migration."""
    for name in TABLE_MODULES:
        importlib.import_module(name)


def run(connection: Connection) -> None:
    """Upgrade (or compare) within one transaction."""
    connection.execute(text("SET lock_timeout = '5s'"))
    connection.execute(text("SET ROLE custody_owner"))
    connection.commit()
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        include_object=lambda _object, name, kind, *_: _is_compared(str(name), kind),
    )
    with context.begin_transaction():
        context.run_migrations()


async def main() -> None:
    """Connect as the administrator named by `sqlalchemy.url`."""
    url = context.config.get_main_option("sqlalchemy.url")
    if not url:
        raise SystemExit("alembic needs sqlalchemy.url: use `python -m custody.db.provision` or `make lint`")
    engine = create_async_engine(driver_url(url))
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


load_tables()
asyncio.run(main())
