"""Put together what a worker for a Stellar network reads from."""

from __future__ import annotations

from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.kernel.assetid import parse_chain_id
from custody.settings import ChainSettings
from ingestion.stellar.movements import EventReader
from ingestion.stellar.read import LedgerReader
from ingestion.stellar.sources import RpcLedgers
from ingestion.watch import build_watch


def build_source(settings: ChainSettings, db: Database) -> RpcLedgers:
    """The ledgers of the configured network; which accounts are ours is asked of the database each time."""
    chain = parse_chain_id(settings.id)
    events = EventReader(settings.network_passphrase, settings.token_contracts)
    reader = LedgerReader(chain, events, build_watch(chain, db), audit=settings.audit_ledgers)
    return RpcLedgers(JsonRpc(settings.rpc_url), reader)
