"""OAuth2 for machines: register a client's public keys, and give it short-lived tokens for requests that it signs.

`POST /oauth/token` speaks RFC 6749, forms in and its own JSON errors out, so that any OAuth2 library can use it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Path, Request
from pydantic import AfterValidator, Field
from starlette.responses import JSONResponse, Response

from api.auth import Caller, requires
from api.deps import app_of, gate_of
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
    problems,
    show_time,
)
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.identity import clients
from custody.identity.errors import ClientRefused, UnknownRole
from custody.identity.model import Client
from custody.identity.tokens import holds_secret
from custody.kernel.ids import PrincipalId, new_uuid, parse_id

router = APIRouter(tags=["access"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("clients:read"))]
Write = Annotated[Command, Depends(commands("clients:write"))]
ClientPath = Annotated[str, Path(max_length=40, examples=["cli_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]

ENDPOINT = "/oauth/token"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""Source: RFC 7523 s.2.2."""
_JWK_EXAMPLE = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "2026-11",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}


def _without_secret(jwk: dict[str, Any]) -> dict[str, Any]:
    """Judged with the body, so that a private key is refused before anything of the call is kept to be confirmed."""
    if holds_secret(jwk):
        raise ValueError("a private key")
    return jwk


class ClientIn(In):
    """A client to register."""

    subject: str = Field(min_length=1, max_length=64, examples=["billing-app"])
    roles: list[str] = Field(min_length=1, max_length=16, examples=[["viewer"]])
    keys: list[Annotated[dict[str, Any], AfterValidator(_without_secret)]] = Field(
        min_length=1,
        max_length=4,
        description="Public JWKs: RSA from 2048 bits, P-256 or Ed25519, each with a `kid` of its own.",
        examples=[[_JWK_EXAMPLE]],
    )


class ClientOut(Out):
    """A client."""

    client_id: str
    subject: str
    roles: list[str]
    keys: list[dict[str, Any]]
    created_at: str
    revoked_at: str | None


class TokenOut(Out):
    """An access token. Source: RFC 6749 s.5.1."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str = Field(description="Its roles, with spaces between.")


class OAuthErrorOut(Out):
    """Why there is none. Source: RFC 6749 s.5.2."""

    error: str = Field(examples=["invalid_client"])
    error_description: str


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type", "client_assertion_type", "client_assertion"],
                    "properties": {
                        "grant_type": {"const": "client_credentials"},
                        "client_assertion_type": {"const": ASSERTION_TYPE},
                        "client_assertion": {
                            "type": "string",
                            "description": "JWT signed by the client: `iss` and `sub` its id, `aud` this endpoint, `jti` used "
                            "once, `exp` at most five minutes after `iat`.",
                        },
                        "scope": {
                            "type": "string",
                            "description": "Some of the client's roles; all if absent.",
                        },
                    },
                }
            }
        },
    }
}


_TOKEN_PROBLEMS: dict[int | str, dict[str, Any]] = {
    **{status: told for status, told in problems(413).items() if status in (413, 500, 503)},
    400: {"model": OAuthErrorOut, "description": "No token."},
    401: {"model": OAuthErrorOut, "description": "No token: the client is not known by what it signed."},
}
"""Refusals are OAuth's; what fails before or behind them is a problem as everywhere."""


@router.post(
    ENDPOINT,
    response_model=TokenOut,
    openapi_extra=_FORM,
    responses=_TOKEN_PROBLEMS,
)
async def issue_token(request: Request) -> Response:
    """Exchange a signed request for an access token (client credentials with `private_key_jwt`)."""
    app = app_of(request)
    form = _read_form(await request.body(), request.headers.get("content-type", ""))
    if form is None:
        return _refused("invalid_request", "one form, each name once")
    if form.get("grant_type") != "client_credentials":
        return _refused("unsupported_grant_type", "client_credentials is the only one")
    if form.get("client_assertion_type") != ASSERTION_TYPE:
        return _refused("invalid_client", "private_key_jwt is the only way", 401)
    names = _names(app.settings.api.public_url)
    try:
        granted = await clients.grant(
            app.db,
            form.get("client_assertion", ""),
            audiences=names,
            roles=form["scope"].split() if form.get("scope") else None,
            now=app.clock.now(),
        )
    except ClientRefused as error:
        return _refused("invalid_client", str(error.values.get("reason", "")), 401)
    except UnknownRole as error:
        return _refused("invalid_scope", error.message)
    lives = clients.TOKEN_LIFE
    shown = TokenOut(
        access_token=granted.issued.secret,
        token_type="Bearer",  # noqa: S106 - the word of the standard
        expires_in=int(lives.total_seconds()),
        scope=" ".join(granted.roles),
    )
    return JSONResponse(shown.model_dump(), headers={"Pragma": "no-cache"})


@router.get("/v1/oauth-clients", responses=READ_PROBLEMS)
async def list_oauth_clients(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[ClientOut]:
    """Clients, oldest first, those that hold no more as well."""
    after = parse_id_cursor("oauth-clients", cursor)
    async with caller.read() as session:
        page = page_of(await clients.list_clients(session, after, limit + 1), limit)
    return PageOut(
        data=[show_client(row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("oauth-clients", row.id)),
    )


@router.post("/v1/oauth-clients", status_code=201, response_model=ClientOut, responses=COMMAND_PROBLEMS)
async def register_oauth_client(body: ClientIn, command: Write) -> Response:
    """Register a client by its public keys, for somebody else than yourself."""
    client_id = PrincipalId(new_uuid())
    now: datetime = command.app.clock.now()

    async def effect(uow: UnitOfWork) -> ClientOut:
        return show_client(
            await clients.register(
                uow,
                command.principal,
                client_id,
                subject=body.subject,
                roles=body.roles,
                keys=body.keys,
                now=now,
            )
        )

    return await command.run(effect)


@router.post("/v1/oauth-clients/{client_id}/revoke", response_model=ClientOut, responses=COMMAND_PROBLEMS)
async def revoke_oauth_client(client_id: ClientPath, command: Write, _: Empty | None = None) -> Response:
    """End a client and all its tokens. Other processes of the API may believe these for a few seconds more."""
    wanted = PrincipalId(parse_id("cli", client_id))

    async def effect(uow: UnitOfWork) -> ClientOut:
        return show_client(await clients.revoke(uow, command.principal, wanted))

    answer = await command.run(effect, status=200)
    gate_of(command.request).cache.forget(wanted)
    return answer


def show_client(client: Client) -> ClientOut:
    """A client as responses carry it."""
    return ClientOut(
        client_id=clients.show_client_id(client.id),
        subject=client.subject,
        roles=list(client.roles),
        keys=list(client.keys),
        created_at=show_time(client.created_at),
        revoked_at=None if client.revoked_at is None else show_time(client.revoked_at),
    )


def _names(public_url: str) -> tuple[str, ...]:
    """What a client may call us in `aud`: the endpoint's address, or the server's."""
    return (f"{public_url}{ENDPOINT}", public_url)


def _read_form(body: bytes, content_type: str) -> dict[str, str] | None:
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return None
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=10
        )
    except ValueError:
        return None
    form = dict(pairs)
    return form if len(form) == len(pairs) else None


def _refused(error: str, description: str, status: int = 400) -> Response:
    shown = OAuthErrorOut(error=error, error_description=description)
    return JSONResponse(shown.model_dump(), status)
