"""How long approved withdrawals wait before a key is touched: the tenant's rules."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    READ_PROBLEMS,
    AtomicText,
    In,
    Out,
    PageOut,
    load_asset,
    show_time,
)
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.kernel.money import parse_atomic
from custody.withdrawals import cooling
from custody.withdrawals.cooling_model import ANY, CoolDownRule

router = APIRouter(prefix="/v1/cool-down-rules", tags=["withdrawals"], route_class=StrictRoute)
Reader = Annotated[Caller, Depends(requires("cool_down_rules:read"))]
Operate = Annotated[Command, Depends(commands("cool_down_rules:write"))]


class CoolDownRuleIn(In):
    """A rule as it shall be from now on."""

    asset: str = Field(max_length=160, description="Asset id, or `*` for every asset.", examples=["*"])
    amount_min: AtomicText = Field(default="0", description="From this amount on; `0` with `*`.")
    seconds: int = Field(
        ge=0, le=cooling.SECONDS_MAX, description="How long; 0 takes the rule back.", examples=[900]
    )
    note: str = Field(default="", max_length=500)


class CoolDownRuleOut(Out):
    """A rule that is in force, or was just taken back. Of several that cover a withdrawal the longest holds."""

    version: int
    asset: str
    amount_min: AtomicText
    seconds: int
    actor: str
    note: str
    created_at: str


@router.get("", responses=READ_PROBLEMS)
async def list_cool_down_rules(caller: Reader) -> PageOut[CoolDownRuleOut]:
    """The rules in force."""
    async with caller.read() as session:
        found = await cooling.list_rules(session)
    return PageOut(data=[show_rule(rule) for rule in found], next_cursor=None)


@router.post("", status_code=201, response_model=CoolDownRuleOut, responses=COMMAND_PROBLEMS)
async def set_cool_down_rule(body: CoolDownRuleIn, command: Operate) -> Response:
    """Set the rule of an asset and threshold, for what is approved from now on."""
    with at("/amount_min"):
        amount_min = parse_atomic(body.amount_min)

    async def effect(uow: UnitOfWork) -> CoolDownRuleOut:
        asset = ANY if body.asset == ANY else (await load_asset(uow, body.asset)).id.text
        return show_rule(
            await cooling.set_rule(
                uow,
                command.principal.subject,
                asset,
                amount_min=amount_min,
                seconds=body.seconds,
                note=body.note,
            )
        )

    return await command.run(effect)


def show_rule(rule: CoolDownRule) -> CoolDownRuleOut:
    """A rule as responses carry it."""
    return CoolDownRuleOut(
        version=rule.sequence,
        asset=rule.asset,
        amount_min=str(rule.amount_min),
        seconds=rule.seconds,
        actor=rule.actor,
        note=rule.note,
        created_at=show_time(rule.created_at),
    )
