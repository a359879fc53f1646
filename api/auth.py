"""Who is asking, and whether their key allows it. Nothing is parsed or looked up before both are known.

`Authorization: Bearer <api key>`; the key is hashed and compared by `custody.identity`. Scopes: `read` sees, `write` acts on
customers' money, `approve` records approvers' decisions, `operate` sets up assets, vaults and bank accounts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.deps import app_of
from custody.bootstrap import App
from custody.db.session import ReadSession
from custody.identity import service as identity
from custody.identity.errors import InvalidApiKey, MissingScope
from custody.identity.model import Principal

_BEARER = HTTPBearer(
    auto_error=False, scheme_name="apiKey", description="An API key of this tenant, as `custody` issued it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated and authorised request."""

    app: App
    """The services behind the API."""
    principal: Principal
    """Who asks, for which tenant."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        """One snapshot of this caller's tenant."""
        async with self.app.db.read(self.principal.tenant) as session:
            yield session


def bearer_of(request: Request) -> str:
    """The bearer token of a request that was authenticated by it."""
    return request.headers.get("authorization", "").partition(" ")[2].strip()


async def principal_of(app: App, credential: str) -> Principal:
    """The principal behind a bearer token, however it came. Raises InvalidApiKey."""
    if not credential.isascii() or len(credential) > 512:
        raise InvalidApiKey
    return await identity.authenticate(app.db, credential)


async def caller_of(app: App, credential: str) -> Caller:
    """Who may read by this bearer token. Raises InvalidApiKey, MissingScope."""
    principal = await principal_of(app, credential)
    identity.demand(principal, "read")
    return Caller(app=app, principal=principal)


async def authenticate(
    request: Request, credential: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> Principal:
    """The principal behind the bearer token. Raises InvalidApiKey."""
    principal = await principal_of(app_of(request), "" if credential is None else credential.credentials)
    structlog.contextvars.bind_contextvars(tenant=int(principal.tenant), principal=str(principal.id))
    return principal


Authenticated = Annotated[Principal, Depends(authenticate)]


def requires(*any_of: str) -> Callable[[Request, Principal], Awaitable[Caller]]:
    """A dependency that lets callers through whose key has one of these scopes. Raises MissingScope."""

    async def authorize(request: Request, principal: Authenticated) -> Caller:
        if principal.scopes.isdisjoint(any_of):
            raise MissingScope(scope=" or ".join(any_of))
        return Caller(app=app_of(request), principal=principal)

    return authorize


Reader = Annotated[Caller, Depends(requires("read"))]
ApprovalReader = Annotated[Caller, Depends(requires("read", "approve"))]
