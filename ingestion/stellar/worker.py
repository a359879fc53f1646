"""Put together what a worker for a Stellar network reads from."""

from __future__ import annotations

from custody.chains.jsonrpc import JsonRpc
from custody.kernel.assetid import parse_chain_id
from custody.settings import ChainSettings
from ingestion.stellar.sources import RpcLedgers


def build_source(settings: ChainSettings) -> RpcLedgers:
    """The ledgers of the configured network."""
    return RpcLedgers(parse_chain_id(settings.id), JsonRpc(settings.rpc_url), settings.network_passphrase)
