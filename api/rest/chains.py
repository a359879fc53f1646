"""Chains: how far our own ingestion has come, and how far the node is."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from api.auth import Caller, requires
from api.chain_status import ChainStatus, chain_statuses
from api.rest.shapes import READ_PROBLEMS, Out, PageOut
from api.strict_json import StrictRoute
from custody.holdings.stop_model import ChainStop

router = APIRouter(prefix="/v1/chains", tags=["chains"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("chains:read"))]


class ChainOut(Out):
    """Where one chain stands."""

    chain: str = Field(examples=["stellar:devnet"])
    cursor_height: int | None = Field(description="The last block whose facts are booked.")
    final_height: int | None = Field(description="Up to where your books follow the chain for good.")
    head_height: int | None = Field(description="What the node tells; null while it does not answer.")
    lag_blocks: int | None = Field(description="Head minus cursor.")
    last_block_at: datetime | None = Field(description="The chain's own time of the block at the cursor.")
    sending_stop: ChainStop | None = Field(
        description="Why nothing new is signed or sent on it: it is halted, or our ingestion is away from its tip; null "
        "while nothing holds it back."
    )


@router.get("", responses=READ_PROBLEMS)
async def list_chains(caller: Reader) -> PageOut[ChainOut]:
    """All configured chains."""
    return PageOut(
        data=[show_chain(status) for status in await chain_statuses(caller.app, caller.principal.tenant)],
        next_cursor=None,
    )


def show_chain(status: ChainStatus) -> ChainOut:
    """A chain's status as responses carry it."""
    return ChainOut(
        chain=status.chain,
        cursor_height=status.cursor_height,
        final_height=status.final_height,
        head_height=status.head_height,
        lag_blocks=status.lag_blocks,
        last_block_at=status.last_block_at,
        sending_stop=status.sending_stop,
    )
