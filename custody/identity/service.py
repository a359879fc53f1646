"""Who is asking, and for which tenant: tenants and API keys. Rotation, roles and revocation are in `api_keys`."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from datetime import datetime

from custody.db.session import Database, ReadSession, UnitOfWork
from custody.identity import role_store, store
from custody.identity.errors import (
    InvalidApiKey,
    MalformedSubject,
    MissingScope,
    NotGrantable,
    UnknownRole,
    UnknownScope,
)
from custody.identity.model import SCOPES, IssuedKey, Principal
from custody.identity.roles import ROLES
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


async def issue_api_key(
    uow: UnitOfWork,
    subject: str,
    scopes: Iterable[str] = (),
    *,
    roles: Iterable[str] = (),
    expires_at: datetime | None = None,
    key_id: PrincipalId | None = None,
    principal_id: PrincipalId | None = None,
) -> IssuedKey:
    """A new key for a person or machine of the transaction's tenant. Its secret is not kept and cannot be read again.

    Raises UnknownScope, UnknownRole, MalformedSubject.
    """
    wanted, given = frozenset(scopes), await check_roles(uow, roles)
    unknown = wanted - frozenset(SCOPES)
    if unknown or not (wanted or given):
        raise UnknownScope(scopes=",".join(sorted(unknown)))
    issued = IssuedKey(id=key_id or PrincipalId(new_uuid()), secret=new_secret("ck_"), expires_at=expires_at)
    await store.insert_key(
        uow,
        issued.id,
        issued.secret,
        check_subject(subject),
        wanted,
        roles=given,
        expires_at=expires_at,
        principal_id=principal_id,
    )
    return issued


async def authenticate(database: Database, secret: str) -> Principal:
    """The principal behind an API key. Raises InvalidApiKey for anything that is not a valid key now."""
    if not _SECRET.fullmatch(secret):
        raise InvalidApiKey
    principal = await store.find_principal(database.reader, secret)
    if principal is None:
        raise InvalidApiKey
    return principal


def demand(principal: Principal, *any_of: str) -> None:
    """Raises MissingScope unless the principal has one of these permissions."""
    if principal.permissions.isdisjoint(any_of):
        raise MissingScope(permission=" or ".join(any_of))


def check_subject(subject: str) -> str:
    """The subject, if audit and intents can carry it. Raises MalformedSubject."""
    if not _SUBJECT.fullmatch(subject):
        raise MalformedSubject(subject=subject[:64])
    return subject


async def check_roles(session: ReadSession, roles: Iterable[str]) -> frozenset[str]:
    """The roles, if there are such, built in or the tenant's own and not retired. Raises UnknownRole."""
    wanted = frozenset(roles)
    if unknown := wanted - await in_force(session, wanted):
        raise UnknownRole(roles=",".join(sorted(unknown))[:200])
    return wanted


async def in_force(session: ReadSession, roles: Iterable[str]) -> frozenset[str]:
    """Those of these roles that grant something: built in, or the tenant's own and not retired."""
    wanted = frozenset(roles)
    own = wanted - ROLES.keys()
    if not own:
        return wanted
    return (wanted - own) | (await role_store.load_in_force(session, own)).keys()


async def refuse_beyond(session: ReadSession, principal: Principal, roles: Iterable[str]) -> None:
    """Nobody gives a role of the tenant's own that allows more than they may themselves. Raises NotGrantable."""
    own = frozenset(roles) - ROLES.keys()
    if not own:
        return
    allowed = await role_store.load_in_force(session, own)
    if beyond := frozenset[str]().union(*allowed.values()) - principal.permissions:
        raise NotGrantable(permissions=",".join(sorted(beyond))[:200])


def new_secret(prefix: str) -> str:
    """A fresh bearer secret of 256 random bits; the prefix tells its kind, also to whoever scans for leaked ones."""
    return prefix + secrets.token_urlsafe(32)
