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

from api.deps import app_of, keys_of, limits_of
from api.limits import kind_of
from custody.bootstrap import App
from custody.db.session import ReadSession
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


async def authenticate(
    request: Request, credential: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]
) -> Principal:
    """The principal behind the bearer token, and one request of those it may make. Raises InvalidApiKey, TooManyRequests."""
    limits = limits_of(request)
    try:
        principal = await _principal_of(request, credential)
    except InvalidApiKey:
        await limits.refuse_stranger("" if request.client is None else request.client.host)
        raise
    kind = kind_of(request.method, request.scope["path"])
    request.scope["state"]["headers"] = await limits.take(kind, str(principal.id))
    structlog.contextvars.bind_contextvars(tenant=int(principal.tenant), principal=str(principal.id))
    return principal


async def _principal_of(request: Request, credential: HTTPAuthorizationCredentials | None) -> Principal:
    if credential is None or not credential.credentials.isascii() or len(credential.credentials) > 512:
        raise InvalidApiKey
    return await keys_of(request).authenticate(app_of(request).db, credential.credentials)


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
