"""SQL of people: who vouches for them, what roles they were given here, and the passkeys they confirm with."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Row, func, insert, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import AdminPasskey, Issuer, Member, StepUp
from custody.identity.tables import issuers, members, passkeys, step_ups
from custody.kernel.ids import PrincipalId, TenantId, new_uuid


async def insert_issuer(uow: UnitOfWork, issuer: Issuer) -> None:
    """Write an issuer. One whose issuer and audience somebody trusts already raises IntegrityError."""
    await uow.conn.execute(
        insert(issuers).values(
            tenant_id=uow.tenant,
            id=issuer.id,
            issuer=issuer.issuer,
            audience=issuer.audience,
            jwks_uri=issuer.jwks_uri,
            subject_claim=issuer.subject_claim,
            roles_claim=issuer.roles_claim,
            roles=issuer.roles,
            mfa_claim=issuer.mfa_claim,
            mfa_values=list(issuer.mfa_values),
        )
    )


async def find_issuer(session: ReadSession, issuer: str, audiences: tuple[str, ...]) -> Issuer | None:
    """Who trusts this issuer for one of these audiences, through a function that answers for exact names only."""
    rows = await session.conn.execute(
        text(
            "SELECT tenant_id, id, issuer, audience, jwks_uri, subject_claim, roles_claim, roles, mfa_claim, mfa_values"
            " FROM find_issuer(:issuer, CAST(:audiences AS text[]))"
        ),
        {"issuer": issuer, "audiences": list(audiences)},
    )
    row = rows.one_or_none()
    return None if row is None else _issuer(row)


async def revoke_issuer(uow: UnitOfWork, issuer_id: UUID) -> bool:
    """Trust an issuer no more. False when that is so already."""
    rows = await uow.conn.execute(
        update(issuers)
        .where(issuers.c.tenant_id == uow.tenant, issuers.c.id == issuer_id, issuers.c.revoked_at.is_(None))
        .values(revoked_at=func.clock_timestamp())
    )
    return rows.rowcount == 1


async def load_issuers(session: ReadSession) -> list[Issuer]:
    """The issuers that the tenant trusts, oldest first."""
    rows = await session.conn.execute(
        select(issuers)
        .where(issuers.c.tenant_id == session.tenant, issuers.c.revoked_at.is_(None))
        .order_by(issuers.c.id)
    )
    return [_issuer(row) for row in rows]


async def find_member(session: ReadSession, subject: str) -> Member | None:
    """The person of this name, if anything was said of them here."""
    rows = await session.conn.execute(
        select(members).where(members.c.tenant_id == session.tenant, members.c.subject == subject)
    )
    row = rows.one_or_none()
    return None if row is None else _member(row)


async def load_members(session: ReadSession, after: UUID | None, limit: int) -> list[Member]:
    """Members, oldest first, after one of them."""
    query = select(members).where(members.c.tenant_id == session.tenant)
    if after is not None:
        query = query.where(members.c.id > after)
    return [_member(row) for row in await session.conn.execute(query.order_by(members.c.id).limit(limit))]


async def set_member(uow: UnitOfWork, subject: str, roles: frozenset[str], *, disabled: bool) -> Member:
    """Give a person these roles, and no others."""
    rows = await uow.conn.execute(
        upsert(members)
        .values(tenant_id=uow.tenant, id=new_uuid(), subject=subject, roles=sorted(roles), disabled=disabled)
        .on_conflict_do_update(
            index_elements=["tenant_id", "subject"],
            set_={"roles": sorted(roles), "disabled": disabled, "changed_at": func.clock_timestamp()},
        )
        .returning(members)
    )
    return _member(rows.one())


async def insert_passkey(uow: UnitOfWork, passkey: AdminPasskey) -> None:
    """Write a passkey. A credential that the tenant knows raises IntegrityError."""
    await uow.conn.execute(
        insert(passkeys).values(
            tenant_id=uow.tenant,
            id=passkey.id,
            subject=passkey.subject,
            algorithm=passkey.algorithm,
            public_key=passkey.public_key,
            credential_id=passkey.credential_id,
            rp_id=passkey.rp_id,
            origins=list(passkey.origins),
            device_bound=passkey.device_bound,
            counter=passkey.counter,
        )
    )


async def load_passkeys(session: ReadSession, subject: str) -> list[AdminPasskey]:
    """A person's passkeys that hold."""
    rows = await session.conn.execute(
        select(passkeys)
        .where(
            passkeys.c.tenant_id == session.tenant,
            passkeys.c.subject == subject,
            passkeys.c.revoked_at.is_(None),
        )
        .order_by(passkeys.c.id)
    )
    return [_passkey(row) for row in rows]


async def never_had_passkey(session: ReadSession, subject: str) -> bool:
    """Whether a person has none, and none that was revoked."""
    known = select(passkeys.c.id).where(passkeys.c.tenant_id == session.tenant, passkeys.c.subject == subject)
    return (await session.conn.execute(known.limit(1))).first() is None


async def lock_passkey(uow: UnitOfWork, subject: str, credential_id: str) -> AdminPasskey | None:
    """A person's passkey by its credential. Locks its row."""
    rows = await uow.conn.execute(
        select(passkeys)
        .where(
            passkeys.c.tenant_id == uow.tenant,
            passkeys.c.subject == subject,
            passkeys.c.credential_id == credential_id,
            passkeys.c.revoked_at.is_(None),
        )
        .with_for_update()
    )
    row = rows.one_or_none()
    return None if row is None else _passkey(row)


async def count_passkey(uow: UnitOfWork, passkey_id: UUID, counter: int) -> None:
    """Keep what a passkey counted."""
    await uow.conn.execute(
        update(passkeys)
        .where(passkeys.c.tenant_id == uow.tenant, passkeys.c.id == passkey_id)
        .values(counter=counter)
    )


async def revoke_passkey(uow: UnitOfWork, subject: str, passkey_id: UUID) -> bool:
    """Let a person's passkey count no more. False when there is none that does."""
    rows = await uow.conn.execute(
        update(passkeys)
        .where(
            passkeys.c.tenant_id == uow.tenant,
            passkeys.c.subject == subject,
            passkeys.c.id == passkey_id,
            passkeys.c.revoked_at.is_(None),
        )
        .values(revoked_at=func.clock_timestamp())
    )
    return rows.rowcount == 1


async def insert_step_up(uow: UnitOfWork, step: StepUp, digest: bytes | None = None) -> None:
    """Write down what a person was asked. `digest` is of the action, where there is one."""
    await uow.conn.execute(
        insert(step_ups).values(
            tenant_id=uow.tenant,
            id=step.id,
            principal_id=step.principal_id,
            session=step.session,
            challenge=step.challenge,
            expires_at=step.expires_at,
            action=step.action,
            action_sha256=digest,
        )
    )


async def load_step_up(session: ReadSession, step_id: UUID, *, lock: bool = False) -> StepUp | None:
    """What was asked. Locks its row where told."""
    query = select(step_ups).where(step_ups.c.tenant_id == session.tenant, step_ups.c.id == step_id)
    rows = await session.conn.execute(query.with_for_update() if lock else query)
    row = rows.one_or_none()
    return None if row is None else _step_up(row)


async def find_open_step_up(
    session: ReadSession, principal_id: PrincipalId, sign_in: str, digest: bytes, now: datetime
) -> StepUp | None:
    """What this person was asked about this action in this sign-in, and can still answer."""
    rows = await session.conn.execute(
        select(step_ups)
        .where(
            step_ups.c.tenant_id == session.tenant,
            step_ups.c.principal_id == principal_id,
            step_ups.c.session == sign_in,
            step_ups.c.action_sha256 == digest,
            step_ups.c.done_at.is_(None),
            step_ups.c.expires_at > now,
        )
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else _step_up(row)


async def finish_step_up(uow: UnitOfWork, step_id: UUID, passkey_id: UUID, until: datetime) -> None:
    """Write down that it was answered, and until when that counts."""
    await uow.conn.execute(
        update(step_ups)
        .where(step_ups.c.tenant_id == uow.tenant, step_ups.c.id == step_id, step_ups.c.done_at.is_(None))
        .values(done_at=func.clock_timestamp(), passkey_id=passkey_id, expires_at=until)
    )


async def count_open_step_ups(
    session: ReadSession, principal_id: PrincipalId, sign_in: str, now: datetime
) -> int:
    """How many actions wait for this person in this sign-in."""
    rows = await session.conn.execute(
        select(func.count()).where(
            step_ups.c.tenant_id == session.tenant,
            step_ups.c.principal_id == principal_id,
            step_ups.c.session == sign_in,
            step_ups.c.action.is_not(None),
            step_ups.c.done_at.is_(None),
            step_ups.c.expires_at > now,
        )
    )
    return int(rows.scalar_one())


async def has_step_up(
    session: ReadSession, principal_id: PrincipalId, sign_in: str, digest: bytes | None, now: datetime
) -> bool:
    """Whether a passkey that still holds was touched in this sign-in, for this action or for any, and that counts still."""
    rows = await session.conn.execute(
        select(step_ups.c.id)
        .join(
            passkeys,
            (passkeys.c.tenant_id == step_ups.c.tenant_id) & (passkeys.c.id == step_ups.c.passkey_id),
        )
        .where(
            step_ups.c.tenant_id == session.tenant,
            step_ups.c.principal_id == principal_id,
            step_ups.c.session == sign_in,
            step_ups.c.done_at.is_not(None),
            step_ups.c.expires_at > now,
            or_(step_ups.c.action_sha256.is_(None), step_ups.c.action_sha256 == digest),
            passkeys.c.revoked_at.is_(None),
        )
        .limit(1)
    )
    return rows.one_or_none() is not None


def _issuer(row: Row[Any]) -> Issuer:
    # Through the function the column comes as text; through the table as what it holds.
    roles = orjson.loads(row.roles) if isinstance(row.roles, str | bytes) else row.roles
    return Issuer(
        tenant=TenantId(row.tenant_id),
        id=row.id,
        issuer=row.issuer,
        audience=row.audience,
        jwks_uri=row.jwks_uri,
        subject_claim=row.subject_claim,
        roles_claim=row.roles_claim,
        roles=dict(roles),
        mfa_claim=row.mfa_claim,
        mfa_values=tuple(row.mfa_values),
    )


def _member(row: Row[Any]) -> Member:
    return Member(
        id=row.id,
        subject=row.subject,
        roles=tuple(row.roles),
        disabled=row.disabled,
        changed_at=row.changed_at,
    )


def _step_up(row: Row[Any]) -> StepUp:
    return StepUp(
        id=row.id,
        principal_id=PrincipalId(row.principal_id),
        session=row.session,
        challenge=row.challenge,
        expires_at=row.expires_at,
        done=row.done_at is not None,
        action=row.action,
    )


def _passkey(row: Row[Any]) -> AdminPasskey:
    return AdminPasskey(
        id=row.id,
        subject=row.subject,
        algorithm=row.algorithm,
        public_key=row.public_key,
        credential_id=row.credential_id,
        rp_id=row.rp_id,
        origins=tuple(row.origins),
        device_bound=row.device_bound,
        counter=row.counter,
    )
