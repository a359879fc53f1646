"""Who is asking, and for which tenant."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

from custody.db.session import Database, ReadSession, UnitOfWork
from custody.identity import store
from custody.identity.errors import InvalidApiKey, MalformedSubject, MissingScope, UnknownScope
from custody.identity.model import SCOPES, IssuedKey, Principal
from custody.kernel.ids import PrincipalId, TenantId, new_uuid

_SECRET = re.compile(r"ck_[A-Za-z0-9_-]{43}")
_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
"""What an intent's `initiator` may be. Source: signer/protocol/SPEC.md."""


async def create_tenant(uow: UnitOfWork, name: str) -> TenantId:
    """The tenant of this name. Idempotent by name."""
    return await store.insert_tenant(uow, name)


async def list_tenants(session: ReadSession) -> list[TenantId]:
    """Every tenant, by id: what workers walk."""
    return [tenant.id for tenant in await store.load_tenants(session)]


async def issue_api_key(uow: UnitOfWork, subject: str, scopes: Iterable[str]) -> IssuedKey:
    """A new key for a person or machine of the transaction's tenant. Its secret is not kept and cannot be read again.

    Raises UnknownScope, MalformedSubject.
    """
    wanted = frozenset(scopes)
    unknown = wanted - frozenset(SCOPES)
    if unknown or not wanted:
        raise UnknownScope(scopes=",".join(sorted(unknown)))
    if not _SUBJECT.fullmatch(subject):
        raise MalformedSubject(subject=subject[:64])
    issued = IssuedKey(id=PrincipalId(new_uuid()), secret="ck_" + secrets.token_urlsafe(32))
    await store.insert_key(uow, issued.id, issued.secret, subject, wanted)
    return issued


async def authenticate(database: Database, secret: str) -> Principal:
    """The principal behind an API key. Raises InvalidApiKey for anything that is not a valid key now."""
    if not _SECRET.fullmatch(secret):
        raise InvalidApiKey
    principal = await store.find_principal(database.reader, secret)
    if principal is None:
        raise InvalidApiKey
    return principal


def demand(principal: Principal, scope: str) -> None:
    """Raises MissingScope unless the principal has the scope."""
    if scope not in principal.scopes:
        raise MissingScope(scope=scope)
