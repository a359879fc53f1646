"""Put together what a worker for an EVM chain reads from."""

from __future__ import annotations

from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.kernel.assetid import parse_chain_id
from custody.settings import ChainSettings
from custody.wallets import service as wallets
from ingestion.evm.sources import RpcBlocks
from ingestion.ports import Watch


def build_source(settings: ChainSettings, db: Database) -> RpcBlocks:
    """The blocks of the configured chain; which accounts are ours is asked of the database each time."""
    chain = parse_chain_id(settings.id)
    return RpcBlocks(chain, JsonRpc(settings.rpc_url), settings.chain_id, build_watch(settings, db))


def build_watch(settings: ChainSettings, db: Database) -> Watch:
    """Asks the database which accounts are vaults, in a short transaction of its own."""
    chain = parse_chain_id(settings.id)

    async def watch(accounts: frozenset[str]) -> frozenset[str]:
        async with db.read(None) as session:
            found = await wallets.find_vaults(session, chain, accounts)
        return frozenset(ref.account for ref in found)

    return watch
