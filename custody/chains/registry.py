"""The configured chains, each with a client. Built once, at the start of a process."""

from __future__ import annotations

from typing import assert_never

from custody.chains.evm.fees import Pricing
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc
from custody.chains.ports import ChainClient
from custody.chains.providers import Providers
from custody.chains.stellar.rpc import StellarRpc
from custody.kernel.assetid import ChainId, parse_chain_id
from custody.settings import ChainSettings, Settings


def build_clients(settings: Settings) -> dict[ChainId, ChainClient]:
    """One client per configured chain. Opens no connection; raises MalformedAssetId for a chain name that is none."""
    clients = (build_client(chain) for chain in settings.chains)
    return {client.chain: client for client in clients}


def build_client(settings: ChainSettings) -> ChainClient:
    """The client of one chain: of `rpc_url`, and on EVM chains of the other providers too."""
    chain = parse_chain_id(settings.id)
    match settings.kind:
        case "stellar":
            rpc = JsonRpc(settings.rpc_url)
            return StellarRpc(chain, rpc, settings.network_passphrase, settings.token_contracts)
        case "evm":
            pricing = Pricing(
                percentile=settings.evm.fee_percentile,
                market=settings.evm.fee_market,
                rollup="op_stack" if settings.l1_fee else settings.evm.rollup,
            )
            urls = (settings.rpc_url, *settings.other_rpc_urls)
            rpcs = [JsonRpc(url, timeout_s=settings.provider_timeout_s) for url in urls]
            clients = [EvmRpc(chain, rpc, settings.chain_id, pricing) for rpc in rpcs]
            return Providers(clients) if settings.other_rpc_urls else clients[0]
        case _:
            assert_never(settings.kind)
