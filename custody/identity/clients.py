"""Machines that sign for short-lived tokens instead of holding a long-lived secret.

The client signs a small JWT with its private key, once and for two minutes at most, and gets an opaque token for it, of which we
keep a hash. Source: RFC 6749 s.4.4, RFC 7521, RFC 7523.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from custody.db.session import Database, ReadSession, UnitOfWork
from custody.identity import token_store as store
from custody.identity import tokens
from custody.identity.api_keys import Grant, refuse_self, tell
from custody.identity.errors import (
    ClientRefused,
    InvalidToken,
    MalformedPublicKey,
    UnknownClient,
    UnknownRole,
)
from custody.identity.model import Client, IssuedKey, Principal
from custody.identity.service import check_roles, check_subject, new_secret, refuse_beyond
from custody.identity.tokens import VerifyingKey, read_jwk
from custody.kernel.errors import InvalidInput
from custody.kernel.ids import PrincipalId, new_uuid, parse_id, show_id

TOKEN_LIFE = timedelta(minutes=15)
"""How long an access token holds."""
ASSERTION_LIFE_MAX = timedelta(minutes=5)
"""Longest that a signed request for one may hold."""
KEYS_MAX = 4
"""Keys of one client at once: enough to rotate."""
JTI_MAX = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """An access token with what it allows."""

    issued: IssuedKey
    """The token."""
    roles: tuple[str, ...]
    """Its roles."""


async def register(
    uow: UnitOfWork,
    principal: Principal,
    client_id: PrincipalId,
    *,
    subject: str,
    roles: Collection[str],
    keys: Sequence[Mapping[str, Any]],
    now: datetime,
) -> Client:
    """A client with its public keys. Raises UnknownRole, MalformedSubject, MalformedPublicKey, NotGrantable."""
    refuse_self(principal, check_subject(subject))
    wanted = await check_roles(uow, roles)
    await refuse_beyond(uow, principal, wanted)
    if not wanted:
        raise UnknownRole("a client needs a role")
    read = [read_jwk(key) for key in keys]
    if not 1 <= len(read) <= KEYS_MAX or len({key.kid for key in read}) != len(read):
        raise MalformedPublicKey
    client = Client(
        tenant=uow.tenant,
        id=client_id,
        subject=subject,
        roles=tuple(sorted(wanted)),
        keys=tuple(dict(key) for key in keys),
        revoked_at=None,
        created_at=now,
    )
    await store.insert_client(uow, client)
    await tell(uow, principal.subject, "register", "granted", client_id, _grant(client))
    return await get(uow, client_id)


async def revoke(uow: UnitOfWork, principal: Principal, client_id: PrincipalId) -> Client:
    """End a client and its tokens now. Idempotent. Raises UnknownClient."""
    client = await get(uow, client_id)
    if await store.revoke_client(uow, client_id):
        await store.revoke_tokens(uow, client_id)
        await tell(uow, principal.subject, "revoke", "revoked", client_id, _grant(client))
    return await get(uow, client_id)


async def get(session: ReadSession, client_id: PrincipalId) -> Client:
    """One client. Raises UnknownClient."""
    found = await store.load_client(session, client_id)
    if found is None:
        raise UnknownClient
    return found


async def list_clients(session: ReadSession, after: UUID | None, limit: int) -> list[Client]:
    """Clients, oldest first, after one of them."""
    return await store.load_clients(session, after, limit)


async def grant(
    database: Database,
    assertion: str,
    *,
    audiences: Collection[str],
    roles: Collection[str] | None,
    now: datetime,
) -> Granted:
    """An access token for a client's signed request. `audiences` are this server's names; `roles` narrows what is given.

    Raises ClientRefused whatever is wrong with the request, UnknownRole for roles that the client does not have.
    """
    try:
        said = tokens.peek(assertion)
        client = await _client(database, said.issuer)
        claims = tokens.verify(
            assertion,
            _key(client, said.kid),
            algorithm=said.algorithm,
            issuer=said.issuer,
            audience=_audience(said, audiences),
            lifetime_max=ASSERTION_LIFE_MAX,
        )
    except InvalidToken as error:
        raise ClientRefused(reason=error.values.get("reason")) from error
    jti = claims.get("jti")
    if claims["sub"] != said.issuer or not isinstance(jti, str) or not 1 <= len(jti) <= JTI_MAX:
        raise ClientRefused(reason="claims")
    wanted = frozenset(client.roles if roles is None else roles)
    if not wanted or not wanted <= frozenset(client.roles):
        raise UnknownRole("the client does not have these roles", roles=" ".join(sorted(wanted))[:200])
    async with database.unit_of_work(client.tenant) as uow:
        until = datetime.fromtimestamp(claims["exp"], UTC) + tokens.LEEWAY
        if not await store.use_assertion(uow, client.id, jti, until):
            raise ClientRefused(reason="used_before")
        return Granted(issued=await _issue(uow, client, wanted, now), roles=tuple(sorted(wanted)))


async def identify(database: Database, secret: str) -> Principal | None:
    """Whose access token this is, a client's or a customer's, if it is valid now."""
    return await store.find_token(database.reader, secret)


async def _issue(uow: UnitOfWork, client: Client, roles: frozenset[str], now: datetime) -> IssuedKey:
    issued = IssuedKey(id=PrincipalId(new_uuid()), secret=new_secret("at_"), expires_at=now + TOKEN_LIFE)
    await store.insert_token(
        uow,
        issued.id,
        issued.secret,
        kind="client",
        principal_id=client.id,
        subject=client.subject,
        grants=roles,
        customer_id=None,
        expires_at=now + TOKEN_LIFE,
    )
    return issued


async def _client(database: Database, client_id: str) -> Client:
    try:
        wanted = parse_id("cli", client_id)
    except InvalidInput as error:
        raise ClientRefused(reason="unknown_client") from error
    async with database.read(None) as session:
        found = await store.find_client(session, wanted)
    if found is None:
        raise ClientRefused(reason="unknown_client")
    return found


def _audience(said: tokens.Peek, ours: Collection[str]) -> str:
    """By which of our names the token calls us."""
    found = next((each for each in said.audiences if each in ours), None)
    if found is None:
        raise InvalidToken(reason="audience")
    return found


def _key(client: Client, kid: str) -> VerifyingKey:
    keys = [read_jwk(key) for key in client.keys]
    if not kid and len(keys) == 1:
        return keys[0]
    found = next((key for key in keys if key.kid == kid), None)
    if found is None:
        raise InvalidToken(reason="unknown_key")
    return found


def _grant(client: Client) -> Grant:
    return Grant(kind="oauth_client", subject=client.subject, roles=client.roles)


def show_client_id(client_id: PrincipalId) -> str:
    """`client_id` as OAuth shows it."""
    return show_id("cli", client_id)
