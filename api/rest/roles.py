"""The roles there are, built in and the tenant's own, and how its own are defined, superseded and retired."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.deps import gate_of
from api.idempotency import Command, commands
from api.rest.shapes import COMMAND_PROBLEMS, READ_PROBLEMS, In, Out, PageOut, show_time
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.identity import own_roles
from custody.identity.model import OwnRole
from custody.identity.roles import ROLES
from custody.kernel.ids import parse_id, show_id

router = APIRouter(prefix="/v1/roles", tags=["access"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("members:read"))]
Write = Annotated[Command, Depends(commands("roles:write"))]
RolePath = Annotated[str, Path(max_length=40, examples=["rol_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]


class RoleIn(In):
    """A role of your own as it shall be from now on, for everybody who has it."""

    role: str = Field(max_length=44, description="`own:` and a word of yours.", examples=["own:night-desk"])
    permissions: list[str] = Field(
        min_length=1,
        max_length=200,
        description="Of those that `GET /v1/roles` shows; you must hold each, and none may be administrative.",
        examples=[["customers:read", "wallets:read"]],
    )
    version: int = Field(
        ge=1, le=1_000_000, description="1 for a new role, else one above its last.", examples=[1]
    )
    note: str = Field(default="", max_length=500, description="Why.")


class RetireRoleIn(In):
    """Why the role ends."""

    note: str = Field(default="", max_length=500, examples=["The night desk was closed."])


class RoleOut(Out):
    """A role and what it may do."""

    role: str
    permissions: list[str] = Field(description="None once it is retired.")
    id: str | None = Field(description="Of a role of your own, the same for all its versions.")
    version: int | None
    retired: bool
    changed_by: str | None = Field(description="Who wrote this version.")
    changed_at: str | None
    note: str


@router.get("", responses=READ_PROBLEMS)
async def list_roles(caller: Reader) -> PageOut[RoleOut]:
    """Every role with its permissions: those that are built in, then your own by name, retired ones too."""
    async with caller.read() as session:
        own = await own_roles.list_roles(session)
    return PageOut(
        data=[_built_in(role, allowed) for role, allowed in ROLES.items()]
        + [show_role(each) for each in own],
        next_cursor=None,
    )


@router.get("/{role_id}", responses=READ_PROBLEMS)
async def show_role_history(role_id: RolePath, caller: Reader) -> PageOut[RoleOut]:
    """The versions of a role of your own, newest first: the last hundred; the audit log has all."""
    async with caller.read() as session:
        found = await own_roles.history(session, parse_id("rol", role_id))
    return PageOut(data=[show_role(each) for each in found], next_cursor=None)


@router.post("", status_code=201, response_model=RoleOut, responses=COMMAND_PROBLEMS)
async def define_role(body: RoleIn, command: Write) -> Response:
    """Define a role of your own, or supersede what it allows, for everybody who has it."""

    async def effect(uow: UnitOfWork) -> RoleOut:
        return show_role(
            await own_roles.define(
                uow, command.principal, body.role, body.permissions, version=body.version, note=body.note
            )
        )

    answer = await command.run(effect)
    gate_of(command.request).cache.forget_role(body.role)
    return answer


@router.post("/{role_id}/retire", response_model=RoleOut, responses=COMMAND_PROBLEMS)
async def retire_role(role_id: RolePath, body: RetireRoleIn, command: Write) -> Response:
    """Retire a role of your own: it grants nothing from now on, to anybody, and its name is not used again."""
    wanted = parse_id("rol", role_id)
    retired: list[str] = []

    async def effect(uow: UnitOfWork) -> RoleOut:
        role = await own_roles.retire(uow, command.principal, wanted, body.note)
        retired.append(role.name)
        return show_role(role)

    answer = await command.run(effect, status=200)
    for name in retired:
        gate_of(command.request).cache.forget_role(name)
    return answer


def show_role(role: OwnRole) -> RoleOut:
    """A role of the tenant's own as responses carry it."""
    return RoleOut(
        role=role.name,
        permissions=sorted(role.permissions),
        id=show_id("rol", role.id),
        version=role.version,
        retired=role.retired,
        changed_by=role.actor,
        changed_at=show_time(role.created_at),
        note=role.note,
    )


def _built_in(role: str, allowed: frozenset[str]) -> RoleOut:
    return RoleOut(
        role=role,
        permissions=sorted(allowed),
        id=None,
        version=None,
        retired=False,
        changed_by=None,
        changed_at=None,
        note="",
    )
