"""API keys over their life: issued, rotated so that two hold for a while, revoked. Each change is audited and told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.identity import service, store
from custody.identity.errors import BadLifetime, KeyNotActive, NotGrantable, UnknownApiKey
from custody.identity.model import ApiKey, IssuedKey, Principal
from custody.kernel.ids import PrincipalId, new_uuid

LIFETIME_MAX = timedelta(days=366)
"""Longest life of a key that is given one."""
OVERLAP_MAX = timedelta(days=30)
"""Longest that a key goes on beside the one it was rotated into."""


async def issue(
    uow: UnitOfWork,
    principal: Principal,
    key_id: PrincipalId,
    *,
    subject: str,
    scopes: Collection[str],
    roles: Collection[str],
    lifetime: timedelta | None,
    now: datetime,
) -> IssuedKey:
    """A key for somebody else. Idempotent by id only through the caller's idempotency key: the secret cannot be had twice.

    Raises UnknownScope, UnknownRole, MalformedSubject, NotGrantable, BadLifetime.
    """
    refuse_self(principal, subject)
    await service.refuse_beyond(uow, principal, roles)
    return await _issue(uow, principal.subject, key_id, subject, scopes, roles, lifetime, now)


async def issue_by_operator(
    uow: UnitOfWork,
    operator: str,
    *,
    subject: str,
    scopes: Collection[str],
    roles: Collection[str],
    lifetime: timedelta | None,
    now: datetime,
) -> IssuedKey:
    """A key by whoever holds the installation's configuration: how a tenant's first administrator comes to one.

    Raises UnknownScope, UnknownRole, MalformedSubject, BadLifetime.
    """
    return await _issue(uow, operator, PrincipalId(new_uuid()), subject, scopes, roles, lifetime, now)


async def _issue(
    uow: UnitOfWork,
    actor: str,
    key_id: PrincipalId,
    subject: str,
    scopes: Collection[str],
    roles: Collection[str],
    lifetime: timedelta | None,
    now: datetime,
) -> IssuedKey:
    expires_at = None if lifetime is None else now + within(lifetime, LIFETIME_MAX)
    issued = await service.issue_api_key(
        uow, subject, scopes, roles=roles, expires_at=expires_at, key_id=key_id
    )
    grant = Grant(kind="api_key", subject=subject, scopes=scopes, roles=roles, expires_at=expires_at)
    await tell(uow, actor, "issue", "granted", key_id, grant)
    return issued


async def rotate(
    uow: UnitOfWork,
    principal: Principal,
    key_id: PrincipalId,
    new_id: PrincipalId,
    *,
    overlap: timedelta,
    now: datetime,
) -> IssuedKey:
    """A new secret with the same rights for the same principal; the old one ends after `overlap`.

    Raises UnknownApiKey, KeyNotActive, BadLifetime.
    """
    if not timedelta(0) <= overlap <= OVERLAP_MAX:
        raise BadLifetime(max_s=int(OVERLAP_MAX.total_seconds()))
    old = await get(uow, key_id)
    if old.revoked_at is not None or (old.expires_at is not None and old.expires_at <= now):
        raise KeyNotActive
    # A role that was retired since is left behind.
    roles = await service.in_force(uow, old.roles)
    if not (roles or old.scopes):
        raise KeyNotActive
    # As long a life as the old one had, from now on.
    expires_at = None if old.expires_at is None else now + (old.expires_at - old.created_at)
    issued = await service.issue_api_key(
        uow,
        old.subject,
        old.scopes,
        roles=roles,
        expires_at=expires_at,
        key_id=new_id,
        principal_id=old.principal_id,
    )
    await store.expire_key(uow, key_id, now + overlap)
    grant = replace(_grant(old, expires_at, replaces=key_id), roles=roles)
    await tell(uow, principal.subject, "rotate", "rotated", new_id, grant)
    return issued


async def revoke(uow: UnitOfWork, principal: Principal, key_id: PrincipalId) -> ApiKey:
    """End a key now. Idempotent. Raises UnknownApiKey."""
    key = await get(uow, key_id)
    if await store.revoke_key(uow, key_id):
        await tell(uow, principal.subject, "revoke", "revoked", key_id, _grant(key, key.expires_at))
    return await get(uow, key_id)


async def get(session: ReadSession, key_id: PrincipalId) -> ApiKey:
    """One key. Raises UnknownApiKey."""
    found = await store.load_key(session, key_id)
    if found is None:
        raise UnknownApiKey
    return found


async def list_keys(session: ReadSession, after: UUID | None, limit: int) -> list[ApiKey]:
    """Keys, oldest first, after one of them."""
    return await store.load_keys(session, after, limit)


def refuse_self(principal: Principal, subject: str) -> None:
    """Nobody gives rights to themselves: two people are in it, or one steals a session and stays. Raises NotGrantable."""
    if principal.subject == subject:
        raise NotGrantable(subject=subject)


def within(lifetime: timedelta, longest: timedelta) -> timedelta:
    """The lifetime, if it is allowed. Raises BadLifetime."""
    if not timedelta(0) < lifetime <= longest:
        raise BadLifetime(max_s=int(longest.total_seconds()))
    return lifetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What was given to whom, as audit and events tell it."""

    kind: str
    """`api_key`, `oauth_client`, `member`, `passkey` or `role`."""
    subject: str
    """Person or machine."""
    scopes: Collection[str] = ()
    """Old scopes."""
    roles: Collection[str] = ()
    """Roles."""
    expires_at: datetime | None = None
    """After which it counts no more."""
    replaces: UUID | None = None
    """What it was rotated from."""


async def tell(
    uow: UnitOfWork,
    actor: str,
    action: str,
    fact: str,
    object_id: UUID,
    grant: Grant,
    more: Mapping[str, object] | None = None,
) -> None:
    """One audit entry and one event, in the transaction of the change. `more` is for the audit log alone."""
    told: dict[str, object] = {
        "subject": grant.subject,
        "scopes": sorted(set(grant.scopes)),
        "roles": sorted(set(grant.roles)),
        "expires_at": None if grant.expires_at is None else grant.expires_at.isoformat(),
        "replaces": None if grant.replaces is None else str(grant.replaces),
    }
    shown = {name: value for name, value in told.items() if value not in (None, [])}
    await audit.record(uow, actor, f"{grant.kind}.{action}", object_id, {**shown, **(more or {})})
    await outbox.emit(uow, f"access.{fact}", object_id, {"id": str(object_id), "kind": grant.kind, **told})


def _grant(key: ApiKey, expires_at: datetime | None, replaces: UUID | None = None) -> Grant:
    return Grant(
        kind="api_key",
        subject=key.subject,
        scopes=key.scopes,
        roles=key.roles,
        expires_at=expires_at,
        replaces=replaces,
    )
