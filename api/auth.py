"""Who is asking, and whether their roles allow it. Nothing is parsed or looked up before both are known.

`Authorization: Bearer …` carries an API key, an access token of ours, or a JWT of the tenant's identity provider;
`custody.identity` says whose it is. Every route names the permission it needs; `custody/identity/roles.py` says who has it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from fastapi.security.base import SecurityBase
from fastapi.security.utils import get_authorization_scheme_param

from api.confirmation import action_of
from api.deps import app_of, gate_of, limits_of
from api.gate import Gate
from api.limits import kind_of
from custody.assets.model import Asset
from custody.bootstrap import App
from custody.db.session import ReadSession
from custody.identity import service as identity
from custody.identity.errors import InvalidApiKey
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId
from custody.kernel.errors import Unauthenticated

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="apiKey",
    description="An API key of this tenant, an access token of `POST /oauth/token`, a customer's token, or a JWT of the tenant's "
    "identity provider.",
)

CREDENTIAL_MAX = 8192
"""Longest bearer credential: JWTs with many claims have a few thousand characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated and authorised request."""

    app: App
    """The services behind the API."""
    principal: Principal
    """Who asks, for which tenant."""

    def read(self) -> AbstractAsyncContextManager[ReadSession]:
        """One snapshot of this caller's tenant; of one customer's rows alone, where the caller is that customer."""
        return self.app.db.read(self.principal.tenant, self.principal.customer)

    def snapshot(self) -> AbstractAsyncContextManager[ReadSession]:
        """The same, begun and ended in fewer round trips."""
        return self.app.db.snapshot(self.principal.tenant, self.principal.customer)

    async def listed(self, wanted: Collection[AssetId]) -> Mapping[AssetId, Asset]:
        """At least these assets; asks the database only for one that was never seen. Raises UnknownAsset."""
        return await self.app.known_assets.of(self.app.db.reader, wanted)


def bearer_of(request: Request) -> str:
    """The bearer token of a request that was authenticated by it."""
    return request.headers.get("authorization", "").partition(" ")[2].strip()


async def identify(gate: Gate, credential: str) -> Principal:
    """The principal behind a bearer token, however it came. Raises InvalidApiKey, InvalidToken, IssuerUnreachable."""
    if not credential or not credential.isascii() or len(credential) > CREDENTIAL_MAX:
        raise InvalidApiKey
    return await gate.identify(credential)


async def caller_of(app: App, gate: Gate, credential: str) -> Caller:
    """Who may ask questions in GraphQL by this bearer token. Raises InvalidApiKey, InvalidToken, MissingScope."""
    principal = await identify(gate, credential)
    identity.demand(principal, "graphql:query")
    return Caller(app=app, principal=principal)


class _Bearer(SecurityBase):
    """What the description of the API says of the credential, and how it is read. A dependency by itself: nested ones are solved
    one by one for each request, which costs more than what they do."""

    model = _BEARER.model
    scheme_name = _BEARER.scheme_name

    async def principal(self, request: Request) -> Principal:
        """The principal behind the bearer token, and one request of those it may make; once for each request.

        Raises InvalidApiKey, InvalidToken, TooManyRequests.
        """
        state = request.scope["state"]
        known: Principal | None = state.get("principal")
        if known is not None:
            return known
        limits = limits_of(request)
        scheme, credential = get_authorization_scheme_param(request.headers.get("authorization"))
        try:
            found = await identify(gate_of(request), credential if scheme.lower() == "bearer" else "")
        except Unauthenticated:
            await limits.refuse_stranger("" if request.client is None else request.client.host)
            raise
        kind = kind_of(request.method, request.scope["path"])
        state["headers"] = await limits.take(kind, str(found.id))
        state["principal"] = found
        structlog.contextvars.bind_contextvars(tenant=int(found.tenant), principal=str(found.id))
        return found


class _Authenticate(_Bearer):
    async def __call__(self, request: Request) -> Principal:
        return await self.principal(request)


authenticate = _Authenticate()
"""A dependency: the principal behind the bearer token. Raises InvalidApiKey, InvalidToken, TooManyRequests."""
Authenticated = Annotated[Principal, Depends(authenticate)]


class requires(_Bearer):  # noqa: N801 - read at its uses as a verb
    """A dependency that lets callers through who have one of these permissions. Raises MissingScope, StepUpRequired."""

    def __init__(self, *any_of: str) -> None:
        """Each a permission of `custody/identity/roles.py`."""
        self.any_of = any_of

    async def __call__(self, request: Request) -> Caller:
        """The caller, if they may."""
        return await self.plainly(request)

    async def plainly(self, request: Request) -> Caller:
        """As Plain."""
        principal = await self.principal(request)
        identity.demand(principal, *self.any_of)
        await gate_of(request).confirm(principal, self.any_of, partial(action_of, request, principal))
        return Caller(app=app_of(request), principal=principal)


Reader = Annotated[Caller, Depends(requires("read"))]
ApprovalReader = Annotated[Caller, Depends(requires("approvals:read"))]
