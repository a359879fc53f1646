"""API keys: who holds one, what it may do, when it was last used; issue, rotate, revoke. Administrative: see docs/access.md."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.deps import gate_of
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    Cursor,
    Empty,
    In,
    Limit,
    Out,
    PageOut,
    show_time,
)
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.identity import api_keys
from custody.identity.model import ApiKey, IssuedKey
from custody.kernel.ids import PrincipalId, parse_id, show_id

router = APIRouter(prefix="/v1/api-keys", tags=["access"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("keys:read"))]
Write = Annotated[Command, Depends(commands("keys:write"))]
KeyPath = Annotated[str, Path(max_length=40, examples=["key_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]

SHOWN_ONCE = "Shown once, in the first answer, and kept by nobody here: null in a repeated one."


class KeyIn(In):
    """A key to issue."""

    subject: str = Field(
        min_length=1, max_length=64, description="Who speaks with it.", examples=["billing-app"]
    )
    roles: list[str] = Field(max_length=16, examples=[["viewer"]])
    scopes: list[str] = Field(
        default_factory=list, max_length=4, description="Old scopes: `read`, `write`, `approve`, `operate`."
    )
    expires_in_s: int | None = Field(
        default=None,
        ge=60,
        le=31_622_400,
        description="Absent for a key that does not expire.",
        examples=[7_776_000],
    )


class RotateKeyIn(In):
    """How long both secrets hold."""

    overlap_s: int = Field(ge=0, le=2_592_000, examples=[3600])


class KeyOut(Out):
    """A key without its secret."""

    id: str = Field(examples=["key_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    principal_id: str = Field(description="The same for a key and what it was rotated into.")
    subject: str
    roles: list[str]
    scopes: list[str]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None = Field(description="To about a minute.")


class IssuedKeyOut(KeyOut):
    """A key that was just made."""

    secret: str | None = Field(description=SHOWN_ONCE)


@router.get("", responses=READ_PROBLEMS)
async def list_api_keys(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[KeyOut]:
    """Keys, oldest first, those that hold no more as well."""
    after = parse_id_cursor("api-keys", cursor)
    async with caller.read() as session:
        page = page_of(await api_keys.list_keys(session, after, limit + 1), limit)
    return PageOut(
        data=[show_key(row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("api-keys", row.id)),
    )


@router.post("", status_code=201, response_model=IssuedKeyOut, responses=COMMAND_PROBLEMS)
async def issue_api_key(body: KeyIn, command: Write) -> Response:
    """Issue a key to somebody else than yourself."""
    key_id = PrincipalId(command.derived_id("api-key"))
    made: list[IssuedKey] = []

    async def issue(uow: UnitOfWork) -> None:
        made.append(
            await api_keys.issue(
                uow,
                command.principal,
                key_id,
                subject=body.subject,
                scopes=body.scopes,
                roles=body.roles,
                lifetime=None if body.expires_in_s is None else timedelta(seconds=body.expires_in_s),
                now=command.app.clock.now(),
            )
        )

    replayed = await command.accept(issue)
    return await _answer(command, key_id, made, replayed=replayed)


@router.post("/{key_id}/rotate", status_code=201, response_model=IssuedKeyOut, responses=COMMAND_PROBLEMS)
async def rotate_api_key(key_id: KeyPath, body: RotateKeyIn, command: Write) -> Response:
    """Issue a new secret with the same rights for the same principal; the old one goes on for `overlap_s`."""
    old = PrincipalId(parse_id("key", key_id))
    new = PrincipalId(command.derived_id("api-key"))
    made: list[IssuedKey] = []

    async def rotate(uow: UnitOfWork) -> None:
        made.append(
            await api_keys.rotate(
                uow,
                command.principal,
                old,
                new,
                overlap=timedelta(seconds=body.overlap_s),
                now=command.app.clock.now(),
            )
        )

    replayed = await command.accept(rotate)
    gate_of(command.request).cache.forget(old)
    return await _answer(command, new, made, replayed=replayed)


@router.post("/{key_id}/revoke", response_model=KeyOut, responses=COMMAND_PROBLEMS)
async def revoke_api_key(key_id: KeyPath, command: Write, _: Empty | None = None) -> Response:
    """End a key now. Other processes of the API may believe it for a few seconds more."""
    wanted = PrincipalId(parse_id("key", key_id))

    async def effect(uow: UnitOfWork) -> KeyOut:
        return show_key(await api_keys.revoke(uow, command.principal, wanted))

    answer = await command.run(effect, status=200)
    gate_of(command.request).cache.forget(wanted)
    return answer


async def _answer(
    command: Command, key_id: PrincipalId, made: list[IssuedKey], *, replayed: bool
) -> Response:
    """The key as it stands; its secret is in no database, and so not in the answer to a repetition."""
    async with command.read() as session:
        key = show_key(await api_keys.get(session, key_id))
    secret = made[0].secret if made else None
    return command.answer(IssuedKeyOut(**key.__dict__, secret=secret), 201, replayed=replayed)


def show_key(key: ApiKey) -> KeyOut:
    """A key as responses carry it."""
    return KeyOut(
        id=show_id("key", key.id),
        principal_id=str(key.principal_id),
        subject=key.subject,
        roles=list(key.roles),
        scopes=list(key.scopes),
        created_at=show_time(key.created_at),
        expires_at=None if key.expires_at is None else show_time(key.expires_at),
        revoked_at=None if key.revoked_at is None else show_time(key.revoked_at),
        last_used_at=None if key.last_used_at is None else show_time(key.last_used_at),
    )
