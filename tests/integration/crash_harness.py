"""A worker that dies before any statement, on whichever chain: every life gets one statement further."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import event, text

from custody.db.session import Database
from custody.kernel.ids import TenantId
from ingestion import cursor
from ingestion.loop import Loop
from tests.fakes.faults import Crash
from tests.integration.ingestion_harness import Desk, catch_up, take_fence

WRITTEN = {
    "ingestion_cursors": "chain, height, hash",
    "ingestion_blocks": "chain, height, hash, canonical",
    "deposits": "id, state, wallet_id, height, inclusion, amount",
    "holding_states": "vault_id, asset, height, before, amount, differing_tx",
    "account_states": "vault_id, height, sequence, spendable",
    "holdings": "vault_id, asset, opening, opening_height",
    "holding_breaks": "id, state",
    "chain_heights": "chain, height_final, height_ingested",
    "outbox": "type, object_id",
    "audit_entries": "sequence, action, object_id",
    "ledger_transfers": "id",
}
"""Every table that a block may touch, with the columns that do not depend on when it was written."""


class DyingDatabase:
    """Raises Crash before the n-th statement of this database, as if the process had died there."""

    def __init__(self, db: Database) -> None:
        self._engine = db.engine.sync_engine
        self.left = 0
        event.listen(self._engine, "before_cursor_execute", self._before)

    def close(self) -> None:
        event.remove(self._engine, "before_cursor_execute", self._before)

    def _before(self, *_: Any) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash("statement")


async def rows(db: Database, tenant: TenantId) -> dict[str, list[tuple[Any, ...]]]:
    """All that was written, in a comparable order."""
    found = {}
    async with db.read(tenant) as session:
        for table, columns in WRITTEN.items():
            result = await session.conn.execute(text(f"SELECT {columns} FROM {table}"))
            found[table] = sorted((tuple(map(str, row)) for row in result), key=repr)
    return found


async def die_before_every_statement(desk: Desk, loop_of: Callable[[int], Loop]) -> int:
    """Start the worker again and again. Each life gets one statement further than the one before; once one has committed
    something, the next begins at the first statement again. Ends when a life reaches the tip; returns how many died.

    `loop_of` builds the worker's loop for a fence."""
    dying = DyingDatabase(desk.db)
    crashes, further, before = 0, 1, await stands_at(desk)
    try:
        while True:
            dying.left = further
            try:
                await catch_up(loop_of(await take_fence(desk.db, desk.chain)))
            except Crash:
                crashes += 1
            else:
                return crashes
            dying.left = 0
            standing = await stands_at(desk)
            further = further + 1 if standing == before else 1
            before = standing
    finally:
        dying.close()


async def stands_at(desk: Desk) -> tuple[int | None, int]:
    """Where cursor and books stand."""
    async with desk.db.read(None) as session:
        position = await cursor.load(session, desk.chain)
    return None if position is None else position.height, await desk.final_height()
