"""Put together what a worker for an EVM chain reads from."""

from __future__ import annotations

from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.kernel.assetid import parse_chain_id
from custody.settings import ChainSettings
from ingestion.evm.sources import RpcBlocks
from ingestion.watch import build_watch


def build_source(settings: ChainSettings, db: Database) -> RpcBlocks:
    """The blocks of the configured chain; which accounts are ours is asked of the database each time."""
    chain = parse_chain_id(settings.id)
    return RpcBlocks(chain, JsonRpc(settings.rpc_url), settings.chain_id, build_watch(chain, db))
