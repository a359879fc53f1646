"""How far each chain's ingestion has come, and how far its node is. Shown by REST, GraphQL and the metrics alike."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from custody.bootstrap import App
from custody.chains.ports import ChainClient
from custody.db.session import ReadSession
from custody.deposits import service as deposits
from custody.holdings import sending
from custody.holdings.stop_model import ChainStop
from custody.kernel.assetid import ChainId
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId
from custody.settings import ChainSettings, Settings
from ingestion import cursor

HEAD_TIMEOUT_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStatus:
    """Where one chain stands. What is not known is None."""

    chain: ChainId
    """CAIP-2 name."""
    cursor_height: int | None
    """The last block whose facts are booked."""
    final_height: int | None
    """Up to where the tenant's books follow the chain for good."""
    head_height: int | None
    """What the node tells; None while it does not answer."""
    last_block_at: datetime | None
    """The chain's own time of the block at the cursor."""
    sending_stop: ChainStop | None
    """Why nothing new is signed or sent on it, for any tenant."""

    @property
    def lag_blocks(self) -> int | None:
        """Head minus cursor; a node behind our cursor counts as no lag."""
        if self.cursor_height is None or self.head_height is None:
            return None
        return max(0, self.head_height - self.cursor_height)


async def chain_statuses(app: App, tenant: TenantId | None = None) -> list[ChainStatus]:
    """All configured chains; with a tenant, also up to where its own books are final."""
    heads = await ask_heads(app)
    async with app.db.read(tenant) as session:
        return await load_statuses(session, app.settings, heads, of_tenant=tenant is not None)


async def ask_heads(app: App) -> dict[ChainId, int | None]:
    """The heads that the nodes tell, all asked at the same time. Talks to the network: never inside a transaction."""
    heads = await asyncio.gather(*(_head(client) for client in app.clients.values()))
    return dict(zip(app.clients, heads, strict=True))


async def load_statuses(
    session: ReadSession, settings: Settings, heads: Mapping[ChainId, int | None], *, of_tenant: bool
) -> list[ChainStatus]:
    """Where our own ingestion stands beside these heads; with the session's tenant's final heights where it has a tenant."""
    return [
        await _status(session, settings.chain(chain), head, of_tenant=of_tenant)
        for chain, head in heads.items()
    ]


async def _status(
    session: ReadSession, settings: ChainSettings, head_height: int | None, *, of_tenant: bool
) -> ChainStatus:
    chain = ChainId(settings.id)
    position = await cursor.load(session, chain)
    block = None if position is None else await cursor.load_block(session, chain, position)
    final = await deposits.final_height(session, chain) if of_tenant else None
    return ChainStatus(
        chain=chain,
        cursor_height=None if position is None else position.height,
        final_height=None if final is None else final.height,
        head_height=head_height,
        last_block_at=None if block is None else block.closed_at,
        sending_stop=await sending.find_stop(session, chain, settings.blind_after_s),
    )


async def _head(client: ChainClient) -> int | None:
    try:
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            return (await client.head()).height
    except (Unavailable, TimeoutError):
        return None
