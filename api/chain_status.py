"""How far each chain's ingestion has come, and how far its node is. Shown by REST, GraphQL and the metrics alike."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from custody.bootstrap import App
from custody.chains.ports import ChainClient
from custody.db.session import ReadSession
from custody.deposits import service as deposits
from custody.kernel.assetid import ChainId
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId
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

    @property
    def lag_blocks(self) -> int | None:
        """Head minus cursor; a node behind our cursor counts as no lag."""
        if self.cursor_height is None or self.head_height is None:
            return None
        return max(0, self.head_height - self.cursor_height)


async def chain_statuses(app: App, tenant: TenantId | None = None) -> list[ChainStatus]:
    """All configured chains; with a tenant, also up to where its own books are final.

    The nodes are asked at the same time and outside of any transaction.
    """
    heads = await asyncio.gather(*(_head(client) for client in app.clients.values()))
    async with app.db.read(tenant) as session:
        return [
            await _status(session, chain, head, known=tenant is not None)
            for chain, head in zip(app.clients, heads, strict=True)
        ]


async def _status(
    session: ReadSession, chain: ChainId, head_height: int | None, *, known: bool
) -> ChainStatus:
    position = await cursor.load(session, chain)
    final = await deposits.final_height(session, chain) if known else None
    return ChainStatus(
        chain=chain,
        cursor_height=None if position is None else position.height,
        final_height=None if final is None else final.height,
        head_height=head_height,
    )


async def _head(client: ChainClient) -> int | None:
    try:
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            return (await client.head()).height
    except (Unavailable, TimeoutError):
        return None
