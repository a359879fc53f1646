"""People: known by the tenant's identity provider, given roles by its word or by ours, and shut out by ours alone.

A token is read, its issuer looked up, the issuer's key asked for (by HTTP, no transaction open), and only then is anything of it
believed. Source: OpenID Connect Core 1.0 s.3.1.3.7; RFC 8725.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from custody.audit import service as audit
from custody.db.session import Database, ReadSession, UnitOfWork
from custody.identity import people_store as store
from custody.identity import tokens
from custody.identity.api_keys import Grant, refuse_self, tell
from custody.identity.errors import (
    InvalidToken,
    IssuerTaken,
    MalformedIssuer,
    MalformedSubject,
    UnknownIssuer,
)
from custody.identity.keysets import Keysets
from custody.identity.model import Issuer, Kind, Member, Principal
from custody.identity.roles import permissions_of
from custody.identity.service import check_roles, check_subject, refuse_beyond
from custody.kernel.ids import PrincipalId, derived_uuid


async def identify(database: Database, keysets: Keysets, token: str) -> Principal:
    """The person whom a token names. Raises InvalidToken, IssuerUnreachable."""
    said = tokens.peek(token)
    async with database.read(None) as session:
        issuer = await store.find_issuer(session, said.issuer, said.audiences)
    if issuer is None:
        raise InvalidToken(reason="unknown_issuer")
    key = await keysets.find(issuer.jwks_uri, said.kid)
    claims = tokens.verify(
        token,
        key,
        algorithm=said.algorithm,
        issuer=issuer.issuer,
        audience=issuer.audience,
        lifetime_max=tokens.LIFETIME_MAX,
    )
    subject = _subject(issuer, claims)
    async with database.read(issuer.tenant) as session:
        member = await store.find_member(session, subject)
    if member is not None and member.disabled:
        raise InvalidToken(reason="disabled")
    roles = _roles(issuer, claims) | frozenset(() if member is None else member.roles)
    return Principal(
        tenant=issuer.tenant,
        id=PrincipalId(derived_uuid("person", issuer.tenant, issuer.issuer, subject)),
        subject=subject,
        scopes=frozenset(),
        roles=roles,
        permissions=permissions_of(roles),
        kind=Kind.PERSON,
        session=hashlib.sha256(_sign_in(claims, token).encode()).hexdigest(),
        mfa=bool(issuer.mfa_claim and _words(claims, issuer.mfa_claim) & frozenset(issuer.mfa_values)),
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
    )


async def trust(uow: UnitOfWork, actor: str, issuer: Issuer, *, plain_http: bool) -> Issuer:
    """Believe an identity provider about this tenant's people. Raises MalformedIssuer, UnknownRole, IssuerTaken.

    For operators only: whoever names the address of keys decides who everybody is, and what we connect to.
    """
    for url in (issuer.issuer, issuer.jwks_uri):
        parts = urlsplit(url)
        if parts.scheme not in ({"https", "http"} if plain_http else {"https"}) or not parts.hostname:
            raise MalformedIssuer(url=url[:200])
    if not issuer.audience or not issuer.subject_claim:
        raise MalformedIssuer
    await check_roles(uow, issuer.roles.values())
    try:
        await store.insert_issuer(uow, issuer)
    except IntegrityError as error:
        raise IssuerTaken(issuer=issuer.issuer, audience=issuer.audience) from error
    told = {"issuer": issuer.issuer, "audience": issuer.audience, "jwks_uri": issuer.jwks_uri}
    await audit.record(uow, actor, "issuer.trust", issuer.id, {**told, "roles": issuer.roles})
    return issuer


async def distrust(uow: UnitOfWork, actor: str, issuer_id: UUID) -> None:
    """Believe it no more. Idempotent. Raises UnknownIssuer."""
    if await store.revoke_issuer(uow, issuer_id):
        await audit.record(uow, actor, "issuer.distrust", issuer_id, {})
    elif issuer_id not in {each.id for each in await store.load_issuers(uow)}:
        raise UnknownIssuer


async def list_issuers(session: ReadSession) -> list[Issuer]:
    """The issuers that the tenant trusts."""
    return await store.load_issuers(session)


async def set_member(
    uow: UnitOfWork, principal: Principal, subject: str, roles: Iterable[str], *, disabled: bool
) -> Member:
    """Give somebody else these roles beside what their token says, or shut them out.

    Raises UnknownRole, MalformedSubject, NotGrantable.
    """
    refuse_self(principal, check_subject(subject))
    wanted = await check_roles(uow, roles)
    known = await store.find_member(uow, subject)
    await refuse_beyond(uow, principal, wanted - frozenset(() if known is None else known.roles))
    member = await store.set_member(uow, subject, wanted, disabled=disabled)
    grant = Grant(kind="member", subject=subject, roles=member.roles)
    await tell(
        uow,
        principal.subject,
        "disable" if disabled else "set",
        "revoked" if disabled else "changed",
        member.id,
        grant,
    )
    return member


async def list_members(session: ReadSession, after: UUID | None, limit: int) -> list[Member]:
    """Members, oldest first, after one of them."""
    return await store.load_members(session, after, limit)


def _subject(issuer: Issuer, claims: Mapping[str, Any]) -> str:
    found = _claim(claims, issuer.subject_claim)
    try:
        return check_subject(found if isinstance(found, str) else "")
    except MalformedSubject as error:
        raise InvalidToken(reason="subject") from error


def _roles(issuer: Issuer, claims: Mapping[str, Any]) -> frozenset[str]:
    if not issuer.roles_claim:
        return frozenset()
    said = _words(claims, issuer.roles_claim)
    return frozenset(role for word, role in issuer.roles.items() if word in said)


def _words(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """A claim's words: of a list, or of one text with spaces between."""
    found = _claim(claims, name)
    if isinstance(found, str):
        return frozenset(found.split())
    return (
        frozenset(each for each in found if isinstance(each, str)) if isinstance(found, list) else frozenset()
    )


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by the path of names with points between, as some providers nest them."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _sign_in(claims: Mapping[str, Any], token: str) -> str:
    """The provider's session, which outlives a refreshed token; else the token itself."""
    found = claims.get("sid")
    return f"sid {claims['iss']} {found}" if isinstance(found, str) and found else f"token {token}"
