"""Which accounts are ours, asked of the database whenever blocks were fetched: no list of them is kept that could be old."""

from __future__ import annotations

from custody.db.session import Database
from custody.kernel.assetid import ChainId
from custody.wallets import service as wallets
from ingestion.ports import Watch


def build_watch(chain: ChainId, db: Database) -> Watch:
    """Asks the database which accounts are vaults, in a short transaction of its own."""

    async def watch(accounts: frozenset[str]) -> frozenset[str]:
        async with db.read(None) as session:
            found = await wallets.find_vaults(session, chain, accounts)
        return frozenset(ref.account for ref in found)

    return watch
