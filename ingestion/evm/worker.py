"""Put together what a worker for an EVM chain reads from."""

from __future__ import annotations

from collections.abc import Mapping

from custody.assets import service as assets
from custody.chains.evm.address import checksum
from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.kernel.assetid import AssetId, ChainId, parse_chain_id
from custody.settings import ChainSettings
from ingestion.evm.contracts import Listed
from ingestion.evm.sources import Means, RpcBlocks
from ingestion.watch import build_watch


def build_source(settings: ChainSettings, db: Database) -> RpcBlocks:
    """The blocks of the configured chain; which accounts are ours is asked of the database each time."""
    chain = parse_chain_id(settings.id)
    return RpcBlocks(
        chain,
        JsonRpc(settings.rpc_url),
        settings.chain_id,
        build_watch(chain, db),
        listed=build_listed(chain, db),
        means=Means(
            unprovable_blocks=settings.unprovable_blocks,
            inner_value=settings.inner_value,
            inner_value_from=settings.inner_value_from,
            wrapped_native=frozenset(each.lower() for each in settings.wrapped_native),
        ),
    )


def build_listed(chain: ChainId, db: Database) -> Listed:
    """Asks the database which contracts are listed tokens, in a short transaction of its own."""

    async def listed(contracts: frozenset[str]) -> Mapping[str, int]:
        found = {}
        async with db.read(None) as session:
            for contract in sorted(contracts):
                asset = await assets.find(session, AssetId(chain, f"erc20:{checksum(contract)}"))
                if asset is not None:
                    found[contract] = asset.decimals
        return found

    return listed
