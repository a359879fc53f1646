"""Assets that this installation knows. Only listed assets credit anybody."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.rest.shapes import COMMAND_PROBLEMS, READ_PROBLEMS, AssetText, In, Out, PageOut
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.assets.execution import verify_listing
from custody.assets.model import Asset
from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import derived_uuid

router = APIRouter(prefix="/v1/assets", tags=["assets"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("assets:read"))]
Operate = Annotated[Command, Depends(commands("assets:write"))]


class AssetIn(In):
    """An asset to list. Its decimals can never be changed."""

    id: AssetText
    code: str = Field(pattern=r"^[A-Za-z0-9]{1,12}$", description="What people call it.", examples=["XLM"])
    decimals: int = Field(ge=0, le=36, examples=[7])


class AssetOut(Out):
    """A listed asset."""

    id: AssetText
    chain: str = Field(description="CAIP-2 name of its chain, or `fiat`.", examples=["stellar:devnet"])
    code: str = Field(examples=["XLM"])
    decimals: int = Field(examples=[7])


@router.post("", status_code=201, response_model=AssetOut, responses=COMMAND_PROBLEMS)
async def register_asset(body: AssetIn, command: Operate) -> Response:
    """List an asset. Listing it again in the same way changes nothing.

    A token of a Stellar contract (`sep41:C…`) must be among those that this installation reads, and its decimals must be what the
    contract says, where the chain's node can run contracts.
    """
    with at("/id"):
        asset_id = parse_asset_id(body.id)
        verified = await verify_listing(command.app.clients, asset_id, body.decimals)

    async def effect(uow: UnitOfWork) -> AssetOut:
        is_new = await assets.find(uow, asset_id) is None
        asset = await assets.register(uow, asset_id, body.code, body.decimals)
        if is_new:
            told: dict[str, object] = {"asset": asset_id.text, "code": asset.code, "decimals": asset.decimals}
            if asset_id.contract is not None:
                told["told_by_contract"] = verified
            named = derived_uuid("asset", asset_id.text)
            await audit.record(uow, command.principal.subject, "asset.register", named, told)
        return show_asset(asset)

    return await command.run(effect)


@router.get("", responses=READ_PROBLEMS)
async def list_assets(caller: Reader) -> PageOut[AssetOut]:
    """All of them, in the order they were listed."""
    async with caller.read() as session:
        found = await assets.list_assets(session)
    return PageOut(data=[show_asset(asset) for asset in found], next_cursor=None)


def show_asset(asset: Asset) -> AssetOut:
    """An asset as responses carry it."""
    return AssetOut(id=asset.id.text, chain=asset.id.chain, code=asset.code, decimals=asset.decimals)
