"""The people who have roles here, and who the caller is."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.responses import Response

from api.auth import Authenticated, Caller, requires
from api.deps import gate_of
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
    problems,
    show_time,
)
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.identity import people
from custody.identity.model import Member
from custody.kernel.ids import show_id

router = APIRouter(prefix="/v1", tags=["access"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("members:read"))]
Write = Annotated[Command, Depends(commands("members:write"))]


class MemberIn(In):
    """A person's roles here: all of them, beside those that the identity provider's token gives."""

    subject: str = Field(
        min_length=1, max_length=64, description="As tokens name them.", examples=["ada@example.org"]
    )
    roles: list[str] = Field(max_length=16, examples=[["treasurer"]])
    disabled: bool = Field(default=False, description="Shut out, whatever a token says.")


class MemberOut(Out):
    """A person's roles here."""

    id: str
    subject: str
    roles: list[str]
    disabled: bool
    changed_at: str


class MeOut(Out):
    """Who the credential speaks for."""

    principal_id: str
    subject: str
    kind: str = Field(description="`machine`, `person` or `customer`.")
    roles: list[str]
    scopes: list[str]
    permissions: list[str]
    customer_id: str | None = Field(description="The only customer whose rows it sees.")
    expires_at: str | None


@router.get("/me", responses=problems(401))
async def show_me(principal: Authenticated) -> MeOut:
    """Who you are here, and what you may do."""
    return MeOut(
        principal_id=str(principal.id),
        subject=principal.subject,
        kind=principal.kind,
        roles=sorted(principal.roles),
        scopes=sorted(principal.scopes),
        permissions=sorted(principal.permissions),
        customer_id=None if principal.customer is None else show_id("cus", principal.customer),
        expires_at=None if principal.expires_at is None else show_time(principal.expires_at),
    )


@router.get("/members", responses=READ_PROBLEMS)
async def list_members(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[MemberOut]:
    """People of whom something was said here, oldest first. Others have the roles of their tokens."""
    after = parse_id_cursor("members", cursor)
    async with caller.read() as session:
        page = page_of(await people.list_members(session, after, limit + 1), limit)
    return PageOut(
        data=[show_member(row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("members", row.id)),
    )


@router.post("/members", response_model=MemberOut, responses=COMMAND_PROBLEMS)
async def set_member(body: MemberIn, command: Write) -> Response:
    """Give somebody else these roles, or shut them out."""

    async def effect(uow: UnitOfWork) -> MemberOut:
        return show_member(
            await people.set_member(uow, command.principal, body.subject, body.roles, disabled=body.disabled)
        )

    answer = await command.run(effect, status=200)
    gate_of(command.request).cache.forget_subject(body.subject)
    return answer


def show_member(member: Member) -> MemberOut:
    """A member as responses carry it."""
    return MemberOut(
        id=show_id("mem", member.id),
        subject=member.subject,
        roles=list(member.roles),
        disabled=member.disabled,
        changed_at=show_time(member.changed_at),
    )
