"""Put together what a worker for an EVM chain reads from."""

from __future__ import annotations

from collections.abc import Mapping

from custody.assets import service as assets
from custody.chains.evm.address import checksum
from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.assetid import AssetId, ChainId, parse_chain_id
from custody.kernel.clock import SystemClock
from custody.settings import ChainSettings
from custody.wallets import service as wallets
from ingestion import failover
from ingestion.evm.contracts import Listed
from ingestion.evm.providers import EvmProviders
from ingestion.evm.receipts import Accounts
from ingestion.evm.sources import Means, RpcBlocks
from ingestion.finality import terms_of
from ingestion.metrics import Metrics
from ingestion.providers import name_providers
from ingestion.watch import build_watch

PROVED, BELIEVED = 2, 1
"""How far a source is trusted: every block is proved or refused, or the settings let some of it pass unproved."""
ANSWERS_PER_FETCH = 6
"""A batch takes so many answers one after the other: blocks, receipts, traces, balances, contracts, and one to spare."""
TENANTS_MAX = 50
"""With more tenants than this nobody lists our accounts for each batch."""


def build_source(settings: ChainSettings, db: Database, metrics: Metrics | None = None) -> EvmProviders:
    """The blocks of the configured chain; which accounts are ours is asked of the database each time.

    The live loop's source tells the worker's `metrics` how its providers fare; one built beside it, to fill history, does not.
    """
    chain = parse_chain_id(settings.id)
    metrics = metrics or Metrics(chain, SystemClock())
    lenient = settings.unprovable_blocks == "tell" or settings.logs == "sample"
    metrics.trusts("rpc", BELIEVED if lenient else PROVED)
    urls = (settings.rpc_url, *settings.other_rpc_urls)
    blocks = [build_blocks(settings, db, url) for url in urls]
    terms = failover.Terms(
        timeout_s=settings.provider_timeout_s,
        fetch_timeout_s=settings.provider_timeout_s * ANSWERS_PER_FETCH,
        lag_max=settings.provider_lag_max,
        agreement_required=False,
    )
    return EvmProviders(list(zip(name_providers(urls), blocks, strict=True)), terms, metrics)


def build_blocks(settings: ChainSettings, db: Database, url: str) -> RpcBlocks:
    """The chain's blocks by one provider."""
    chain = parse_chain_id(settings.id)
    return RpcBlocks(
        chain,
        JsonRpc(url, timeout_s=settings.provider_timeout_s),
        settings.chain_id,
        build_watch(chain, db),
        listed=build_listed(chain, db),
        accounts=build_accounts(chain, db),
        means=Means(
            unprovable_blocks=settings.unprovable_blocks,
            inner_value=settings.inner_value,
            inner_value_from=settings.inner_value_from,
            wrapped_native=frozenset(each.lower() for each in settings.wrapped_native),
            l1_fee=settings.l1_fee,
            sample_every=settings.logs_sample_every if settings.logs == "sample" else None,
            tags=terms_of(settings).tags,
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


def build_accounts(chain: ChainId, db: Database) -> Accounts:
    """Asks the database for all our accounts on the chain, as long as they are few."""

    async def accounts(most: int) -> frozenset[str] | None:
        async with db.read(None) as session:
            tenants = await identity.list_tenants(session)
        if len(tenants) > TENANTS_MAX:
            return None
        found: set[str] = set()
        for tenant in tenants:
            async with db.read(tenant) as session:
                found.update(await wallets.list_accounts(session, chain, most + 1))
            if len(found) > most:
                return None
        return frozenset(found)

    return accounts
