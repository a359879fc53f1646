"""Tenants and the principals that act for them."""

from __future__ import annotations

from dataclasses import dataclass

from custody.kernel.ids import PrincipalId, TenantId

SCOPES = ("read", "write", "approve", "operate")
"""What a credential may do: read; move and request money; decide on withdrawals; set up vaults, assets and bank accounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is asking, after authentication."""

    tenant: TenantId
    """Whose data it may see."""
    id: PrincipalId
    """The credential's own id: part of every idempotency key."""
    subject: str
    """The person or machine behind it. An intent's initiator; may not approve what it asked for."""
    scopes: frozenset[str]
    """A subset of SCOPES."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedKey:
    """A new API key. The secret is shown once and stored only as a hash."""

    id: PrincipalId
    """The credential's id."""
    secret: str
    """`ck_` and 43 characters: 256 random bits. Never logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One organisation whose books are kept apart from all others'."""

    id: TenantId
    """Small integer; first column of every key."""
    name: str
    """What operators call it. Unique."""
