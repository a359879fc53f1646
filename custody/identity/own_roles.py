"""Roles of a tenant's own: named sets of permissions beside the built-in ones, superseded and retired but never edited.

Their names begin with `own:`, so that none can come to mean a role that is built in later, and are used once: whoever still
holds a retired role does not wake up with a new one. Nobody defines or gives more than they hold, nobody defines a role that
they have, and who administers stays a matter of the built-in roles alone. Decided in ADR 0032.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from custody.db.session import Database, ReadSession, UnitOfWork
from custody.identity import role_store as store
from custody.identity.api_keys import Grant, tell
from custody.identity.errors import (
    MalformedRole,
    NotGrantable,
    PermissionReserved,
    RoleNotFound,
    RoleRetired,
    RoleVersionConflict,
    TooManyRoles,
    UnknownPermission,
)
from custody.identity.model import OwnRole, Principal
from custody.identity.roles import OWN_GRANTABLE, PERMISSIONS, ROLES
from custody.kernel.ids import derived_uuid

ROLES_MAX = 100
"""Names of one tenant, those of retired roles among them."""
VERSIONS_SHOWN = 100
"""Of one role; older ones are in the audit log."""
_NAME = re.compile(r"own:[a-z][a-z0-9-]{0,39}")


async def complete(database: Database, principal: Principal) -> Principal:
    """The principal with what its own roles allow now, too. Costs nothing where all its roles are built in."""
    own = principal.roles - ROLES.keys()
    if not own:
        return principal
    async with database.read(principal.tenant) as session:
        allowed = await store.load_in_force(session, own)
    # What came to be administrative after a role was defined leaves it.
    found = frozenset[str]().union(*allowed.values()) & OWN_GRANTABLE
    return replace(principal, permissions=principal.permissions | found)


async def define(
    uow: UnitOfWork,
    principal: Principal,
    name: str,
    permissions: Collection[str],
    *,
    version: int,
    note: str,
) -> OwnRole:
    """Define a role, or supersede what it was: for everybody who has it, at once.

    `version` is one above the last, 1 for a new name.
    Raises MalformedRole, UnknownPermission, PermissionReserved, NotGrantable, RoleRetired, RoleVersionConflict, TooManyRoles.
    """
    wanted = _check(principal, name, permissions)
    if name in principal.roles or await store.is_given(uow, principal.subject, name):
        raise NotGrantable("nobody changes a role that they have", role=name)
    role_id = derived_uuid("role", uow.tenant, name)
    last = await store.load_versions(uow, role_id, 1)
    _follows(last, version)
    if not last and await store.count_roles(uow) >= ROLES_MAX:
        raise TooManyRoles(roles_max=ROLES_MAX)
    made = await _write(uow, principal, role_id, version, name, wanted, note)
    await _tell(uow, made, "supersede" if last else "define", "changed" if last else "granted")
    return made


async def retire(uow: UnitOfWork, principal: Principal, role_id: UUID, note: str) -> OwnRole:
    """Let a role grant nothing from now on, to anybody. Idempotent. Raises RoleNotFound."""
    last = (await history(uow, role_id))[0]
    if last.retired:
        return last
    made = await _write(uow, principal, role_id, last.version + 1, last.name, frozenset(), note)
    await _tell(uow, made, "retire", "revoked")
    return made


async def list_roles(session: ReadSession) -> list[OwnRole]:
    """Each role as it stands, retired ones too, by name."""
    return await store.load_roles(session)


async def history(session: ReadSession, role_id: UUID) -> list[OwnRole]:
    """A role's versions, newest first. Raises RoleNotFound."""
    found = await store.load_versions(session, role_id, VERSIONS_SHOWN)
    if not found:
        raise RoleNotFound
    return found


def _check(principal: Principal, name: str, permissions: Collection[str]) -> frozenset[str]:
    wanted = frozenset(permissions)
    if not _NAME.fullmatch(name):
        raise MalformedRole
    if unknown := wanted - PERMISSIONS:
        raise UnknownPermission(permissions=_some(unknown))
    if not wanted:
        raise UnknownPermission("a role needs a permission")
    if reserved := wanted - OWN_GRANTABLE:
        raise PermissionReserved(permissions=_some(reserved))
    if beyond := wanted - principal.permissions:
        raise NotGrantable(permissions=_some(beyond))
    return wanted


def _follows(last: list[OwnRole], version: int) -> None:
    if last and last[0].retired:
        raise RoleRetired(role=last[0].name)
    now = last[0].version if last else 0
    if version != now + 1:
        raise RoleVersionConflict(last_version=now)


async def _write(
    uow: UnitOfWork,
    principal: Principal,
    role_id: UUID,
    version: int,
    name: str,
    permissions: frozenset[str],
    note: str,
) -> OwnRole:
    try:
        return await store.insert_role(
            uow, role_id, version, name=name, permissions=permissions, actor=principal.subject, note=note
        )
    except IntegrityError as error:
        # Somebody else's version came in between.
        raise RoleVersionConflict from error


async def _tell(uow: UnitOfWork, role: OwnRole, action: str, fact: str) -> None:
    told = {"version": role.version, "permissions": sorted(role.permissions), "note": role.note}
    await tell(uow, role.actor, action, fact, role.id, Grant(kind="role", subject=role.name), told)


def _some(words: frozenset[str]) -> str:
    return ",".join(sorted(words))[:200]
