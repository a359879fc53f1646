"""Tenants, the principals that act for them, and what principals present to be known."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from custody.kernel.ids import CustomerId, PrincipalId, TenantId

SCOPES = ("read", "write", "approve", "operate")
"""The roles of keys issued before there were roles: read; move and request money; decide on withdrawals; set up."""


class Kind(StrEnum):
    """What a principal is."""

    MACHINE = "machine"
    """A program of the tenant's, by API key or OAuth2 client."""
    PERSON = "person"
    """Somebody whom the tenant's identity provider vouches for."""
    CUSTOMER = "customer"
    """A wallet's end user. Sees one customer's rows and no other's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is asking, after authentication."""

    tenant: TenantId
    """Whose data it may see."""
    id: PrincipalId
    """Stays the same while its secrets and tokens change: part of every idempotency key."""
    subject: str
    """The person or machine behind it. An intent's initiator; may not approve what it asked for."""
    scopes: frozenset[str]
    """A subset of SCOPES."""
    roles: frozenset[str] = frozenset()
    """Names of its roles."""
    permissions: frozenset[str] = frozenset()
    """What its roles and scopes allow together."""
    kind: Kind = Kind.MACHINE
    """What it is."""
    customer: CustomerId | None = None
    """The only customer whose rows it sees; None for whoever sees the tenant's."""
    session: str = ""
    """Of a person: the sign-in that a passkey's touch counts for."""
    mfa: bool = False
    """Whether the identity provider says that the person used a second factor."""
    credential: UUID | None = None
    """The key or token that was presented; None for tokens that we keep nothing of."""
    expires_at: datetime | None = None
    """After which the credential counts no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new secret. It is shown once and stored only as a hash."""

    id: PrincipalId
    """The credential's id."""
    secret: str = field(repr=False)
    """A prefix that tells its kind and 43 characters: 256 random bits. Never logged."""
    expires_at: datetime | None = None
    """After which it counts no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key as administrators see it: everything but its secret."""

    id: PrincipalId
    """The credential's id."""
    principal_id: PrincipalId
    """Whom it speaks for; the same for a key and what it was rotated into."""
    subject: str
    """The person or machine behind it."""
    scopes: tuple[str, ...]
    """Old scopes."""
    roles: tuple[str, ...]
    """Roles."""
    created_at: datetime
    """When it was issued."""
    expires_at: datetime | None
    """After which it counts no more."""
    revoked_at: datetime | None
    """Since when it does not count."""
    last_used_at: datetime | None
    """When it was last seen, to the minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One organisation whose books are kept apart from all others'."""

    id: TenantId
    """Small integer; first column of every key."""
    name: str
    """What operators call it. Unique."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """An identity provider that a tenant trusts to say who its people are. Source: OpenID Connect Core 1.0."""

    tenant: TenantId
    """Who trusts it."""
    id: UUID
    """Its id."""
    issuer: str
    """`iss`, compared exactly."""
    audience: str
    """`aud`, compared exactly; with the issuer, unique in the installation."""
    jwks_uri: str
    """Where its keys are."""
    subject_claim: str
    """Claim that holds the person's name here."""
    roles_claim: str
    """Claim that holds the person's roles; empty when only members' roles count."""
    roles: dict[str, str]
    """The provider's word to our role. Words that are not in it mean nothing."""
    mfa_claim: str
    """Claim that tells of a second factor, such as `amr`; empty when none does."""
    mfa_values: tuple[str, ...]
    """Values of that claim of which one must be present."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A person's roles, given here rather than by the identity provider."""

    id: UUID
    """Its id."""
    subject: str
    """The person's name, as tokens give it."""
    roles: tuple[str, ...]
    """Roles beside those of the token."""
    disabled: bool
    """Whether the person is shut out, whatever a token says."""
    changed_at: datetime
    """When it was last set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRole:
    """One version of a role of the tenant's own; the last is in force."""

    id: UUID
    """The same for all versions."""
    name: str
    """What members and keys are given: `own:` and a word. Never used again for another role."""
    version: int
    """1, 2, 3 …"""
    permissions: frozenset[str]
    """What it allows; nothing once it is retired."""
    retired: bool
    """Whether it is over for good."""
    actor: str
    """Who wrote this version."""
    note: str
    """Why."""
    created_at: datetime
    """When."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A machine that signs for its tokens. Source: RFC 6749 s.4.4, RFC 7523."""

    tenant: TenantId
    """Whose it is."""
    id: PrincipalId
    """Its `client_id`, and the principal that its tokens speak for."""
    subject: str
    """The machine behind it."""
    roles: tuple[str, ...]
    """Roles of its tokens, at most."""
    keys: tuple[dict[str, Any], ...]
    """Public keys under which it signs: JWKs with `kid` and `alg`."""
    revoked_at: datetime | None
    """Since when it gets no tokens."""
    created_at: datetime
    """When it was registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminPasskey:
    """A passkey with which a person confirms an administrative action."""

    id: UUID
    """Its id."""
    subject: str
    """Whose it is."""
    algorithm: str
    """`ES256`, `EdDSA` or `RS256`."""
    public_key: str
    """Hexadecimal, as an approver's is spelled."""
    credential_id: str
    """base64url without padding."""
    rp_id: str
    """Domain that it belongs to."""
    origins: tuple[str, ...]
    """Pages on which it may be used."""
    device_bound: bool
    """Whether it cannot leave its device."""
    counter: int
    """What it last counted; 0 where it does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUp:
    """A person asked to touch a passkey, and then for a while the proof of it."""

    id: UUID
    """Its id."""
    principal_id: PrincipalId
    """Who was asked."""
    session: str
    """In which sign-in; it counts in no other."""
    challenge: bytes
    """32 random bytes: what the passkey signs, or what it signs together with the action."""
    expires_at: datetime
    """Until when it may be answered; once answered, until when it counts."""
    done: bool
    """Whether it was answered."""
    action: str | None = None
    """The one action that it counts for, in canonical JSON; None for whatever is asked while it counts."""
