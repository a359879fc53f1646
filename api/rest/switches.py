"""Kill switches: what operators have stopped. One stops; to let it go on takes two."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    Cursor,
    In,
    Limit,
    Out,
    PageOut,
    show_time,
)
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.kernel.ids import parse_id, show_id
from custody.switches import service as switches
from custody.switches.model import REASON_MAX, Scope, Switch, parse_place

router = APIRouter(prefix="/v1/switches", tags=["switches"], route_class=StrictRoute)
Reader = Annotated[Caller, Depends(requires("switches:read"))]
Stop = Annotated[Command, Depends(commands("switches:stop"))]
Operate = Annotated[Command, Depends(commands("switches:write"))]

SwitchPath = Annotated[str, Path(max_length=40, examples=["swi_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
Standing = Annotated[bool, Query(description="Only what is stopped now; otherwise all that ever was.")]
ScopeText = Literal["chain", "asset", "vault", "customer", "rail"]


class ReasonIn(In):
    """Why, for the record."""

    reason: str = Field(max_length=REASON_MAX, examples=["the issuer froze our account, see ticket 7421"])


class StopIn(ReasonIn):
    """What is to be stopped."""

    scope: ScopeText = Field(examples=["asset"])
    subject: str = Field(
        max_length=160,
        description="The chain, the asset id, the id of the vault or customer, or the rail.",
        examples=["stellar:devnet/native"],
    )


class SwitchOut(Out):
    """Something that was stopped, and what came of it."""

    id: str = Field(examples=["swi_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    scope: str = Field(examples=["asset"])
    subject: str = Field(examples=["stellar:devnet/native"])
    state: str = Field(
        description="`stopped`, `resume_proposed` (still stopped) or `resumed`.", examples=["stopped"]
    )
    reason: str
    stopped_by: str
    stopped_at: str
    proposed_by: str | None = Field(description="Who proposed that it goes on.")
    proposed_at: str | None
    resumed_by: str | None = Field(description="Who confirmed it; never who proposed it.")
    resumed_at: str | None


@router.post("", status_code=201, response_model=SwitchOut, responses=COMMAND_PROBLEMS)
async def stop(body: StopIn, command: Stop) -> Response:
    """Stop a chain, an asset, a vault, a customer or a rail, from the answer on. What arrives is booked all the same."""
    with at("/subject"):
        place = parse_place(Scope(body.scope), body.subject)
    switch_id = command.derived_id("switch")

    async def effect(uow: UnitOfWork) -> SwitchOut:
        return show_switch(await switches.stop(uow, command.principal, switch_id, place, body.reason))

    return await command.run(effect)


@router.post("/{switch_id}/resume", status_code=200, response_model=SwitchOut, responses=COMMAND_PROBLEMS)
async def propose_resume(switch_id: SwitchPath, body: ReasonIn, command: Operate) -> Response:
    """Propose that it goes on. It stays stopped until another person confirms."""
    target = parse_id("swi", switch_id)

    async def effect(uow: UnitOfWork) -> SwitchOut:
        return show_switch(await switches.propose_resume(uow, command.principal, target, body.reason))

    return await command.run(effect, status=200)


@router.post("/{switch_id}/confirm", status_code=200, response_model=SwitchOut, responses=COMMAND_PROBLEMS)
async def confirm_resume(switch_id: SwitchPath, body: ReasonIn, command: Operate) -> Response:
    """Let it go on, as another person has proposed."""
    target = parse_id("swi", switch_id)

    async def effect(uow: UnitOfWork) -> SwitchOut:
        return show_switch(await switches.confirm_resume(uow, command.principal, target, body.reason))

    return await command.run(effect, status=200)


@router.get("", responses=READ_PROBLEMS)
async def list_switches(
    caller: Reader, standing: Standing = True, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[SwitchOut]:
    """What is stopped, newest first."""
    before = parse_id_cursor("switches", cursor)
    async with caller.read() as session:
        found = await switches.list_switches(session, standing=standing, before=before, limit=limit + 1)
    page = page_of(found, limit)
    return PageOut(
        data=[show_switch(row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("switches", row.id)),
    )


@router.get("/{switch_id}", responses=READ_PROBLEMS)
async def get_switch(switch_id: SwitchPath, caller: Reader) -> SwitchOut:
    """One switch."""
    async with caller.read() as session:
        return show_switch(await switches.get(session, parse_id("swi", switch_id)))


def show_switch(found: Switch) -> SwitchOut:
    """A switch as responses carry it."""
    return SwitchOut(
        id=show_id("swi", found.id),
        scope=found.place.scope.value,
        subject=found.place.shown,
        state=found.state,
        reason=found.reason,
        stopped_by=found.stopped_by,
        stopped_at=show_time(found.stopped_at),
        proposed_by=found.proposed_by,
        proposed_at=None if found.proposed_at is None else show_time(found.proposed_at),
        resumed_by=found.resumed_by,
        resumed_at=None if found.resumed_at is None else show_time(found.resumed_at),
    )
