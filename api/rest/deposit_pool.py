"""The pool of keys that wait to become deposit addresses on EVM chains."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from api.auth import Caller, requires
from api.rest.shapes import READ_PROBLEMS, Out
from api.strict_json import StrictRoute
from custody.wallets import keys

router = APIRouter(prefix="/v1/deposit-pool", tags=["wallets"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("vaults:read"))]


class DepositPoolOut(Out):
    """How the pool stands."""

    free: int = Field(description="Keys that are ready.")
    taken: int = Field(description="Keys that wallets have. A key is given out once and never comes back.")
    set_aside: int = Field(description="Keys that an operator has kept from being given out.")
    low_water: int = Field(description="More are made when fewer are free.")
    asked: int = Field(description="Keys that the signer was asked for and that are not here yet.")
    refusal: str | None = Field(
        description="The signer's last refusal of them; null when there was none.", examples=["over_velocity"]
    )


@router.get("", responses=READ_PROBLEMS)
async def show_pool(caller: Reader) -> DepositPoolOut:
    """How many addresses are ready, and what the worker waits for."""
    async with caller.read() as session:
        found = await keys.depth(session)
    return DepositPoolOut(
        free=found.free,
        taken=found.taken,
        set_aside=found.set_aside,
        low_water=caller.app.settings.deposit_pool.low_water,
        asked=0 if found.asked is None else found.asked.size,
        refusal=None if found.asked is None or not found.asked.refusal else found.asked.refusal,
    )
