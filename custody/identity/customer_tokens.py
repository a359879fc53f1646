"""Tokens for wallets' end users: each sees one customer and no other, for a short time.

The tenant's own server asks for one when its user has signed in, and hands it to the user's app. What is seen is decided by
row-level security (`app.customer`); what may be done, by what the token names.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.identity import token_store
from custody.identity.api_keys import within
from custody.identity.errors import NotGrantable, UnknownRole
from custody.identity.model import IssuedKey, Principal
from custody.identity.roles import CUSTOMER_ACTS
from custody.identity.service import new_secret
from custody.kernel.ids import CustomerId, PrincipalId, TenantId, derived_uuid

LIFETIME_MAX = timedelta(hours=1)
"""Longest life of a customer's token."""


async def issue(
    uow: UnitOfWork,
    principal: Principal,
    token_id: UUID,
    customer_id: CustomerId,
    *,
    acts: Collection[str],
    lifetime: timedelta,
    now: datetime,
) -> IssuedKey:
    """A token of a customer that the caller has found to be the tenant's, for no more than the issuer may do themselves.

    Raises UnknownRole, NotGrantable, BadLifetime.
    """
    wanted = frozenset(acts)
    if unknown := wanted - CUSTOMER_ACTS:
        raise UnknownRole("no such action of customers", permissions=",".join(sorted(unknown))[:200])
    if beyond := wanted - principal.permissions:
        raise NotGrantable(permissions=",".join(sorted(beyond)))
    expires_at = now + within(lifetime, LIFETIME_MAX)
    secret = new_secret("cu_")
    await token_store.insert_token(
        uow,
        token_id,
        secret,
        kind="customer",
        principal_id=principal_of(uow.tenant, customer_id),
        subject=subject_of(customer_id),
        grants=wanted,
        customer_id=customer_id,
        expires_at=expires_at,
    )
    await audit.record(
        uow,
        principal.subject,
        "customer_token.issue",
        customer_id,
        {"token_id": str(token_id), "permissions": sorted(wanted), "expires_at": expires_at.isoformat()},
    )
    return IssuedKey(id=PrincipalId(token_id), secret=secret, expires_at=expires_at)


async def revoke_all(uow: UnitOfWork, principal: Principal, customer_id: CustomerId) -> int:
    """End all of a customer's tokens now. Returns how many still held."""
    ended = await token_store.revoke_tokens(uow, principal_of(uow.tenant, customer_id))
    if ended:
        await audit.record(uow, principal.subject, "customer_token.revoke", customer_id, {"tokens": ended})
    return ended


def principal_of(tenant: TenantId, customer_id: CustomerId) -> PrincipalId:
    """The same for all tokens of a customer, so that its idempotency keys outlive them."""
    return PrincipalId(derived_uuid("customer", tenant, customer_id))


def subject_of(customer_id: CustomerId) -> str:
    """What audit and intents call a customer that acts for itself."""
    return f"customer:{customer_id.hex}"
