"""Roles and permissions as data: what each built-in role may do. A tenant's own roles choose from the same permissions.

A permission is `things:verb`. Roles are given to people and machines; a key's old scopes are roles too. The four words `read`,
`write`, `approve` and `operate` are permissions as well, for what names no finer one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_SEE_MONEY = frozenset(
    {
        "address_book:read",
        "adjustments:read",
        "approvals:read",
        "assets:read",
        "bank_accounts:read",
        "cases:read",
        "chains:read",
        "cool_down_rules:read",
        "customers:read",
        "deposits:read",
        "events:read",
        "events:watch",
        "exchanges:read",
        "holdings:read",
        "payouts:read",
        "proofs:read",
        "rails:read",
        "receipts:read",
        "reconciliation:read",
        "screening:read",
        "switches:read",
        "tariffs:read",
        "transfers:read",
        "vaults:read",
        "wallets:read",
        "withdrawals:read",
        "graphql:query",
        "read",
    }
)
_SEE_WORKINGS = frozenset({"audit:read", "treasury:read", "webhooks:read"})
_SEE_ACCESS = frozenset({"keys:read", "members:read", "clients:read"})
_MOVE_MONEY = frozenset(
    {
        "customers:write",
        "wallets:write",
        "transfers:request",
        "transfers:bulk",
        "withdrawals:batch",
        "withdrawals:cancel",
        "withdrawals:quote",
        "withdrawals:request",
        "payouts:request",
        "payouts:cancel",
        "customer_tokens:issue",
        "write",
    }
)
_DECIDE = frozenset({"approvals:decide", "approve"})
_SET_UP = frozenset(
    {
        "address_book:write",
        "adjustments:decide",
        "assets:write",
        "bank_accounts:write",
        "cool_down_rules:write",
        "exchanges:write",
        "reconciliation:write",
        "tariffs:write",
        "treasury:write",
        "vaults:write",
        "withdrawals:operate",
    }
)
_CASES = frozenset({"cases:decide", "cases:rules", "screening:write"})
_ADMINISTER = frozenset(
    {
        "keys:write",
        "members:write",
        "roles:write",
        "clients:write",
        "webhooks:write",
        "settings:write",
        "switches:write",
    }
)

UNATTENDED = "admin:unattended"
"""What a machine needs beside an administrative permission: nobody is there to touch a passkey."""

ADMINISTRATIVE = _ADMINISTER
"""Permissions whose use asks a person for a passkey, just now, and a machine for `admin:unattended`."""

ROLES: Mapping[str, frozenset[str]] = {
    "viewer": _SEE_MONEY,
    "auditor": _SEE_MONEY | _SEE_WORKINGS | _SEE_ACCESS,
    "operator": _SEE_MONEY
    | _SEE_WORKINGS
    | _SET_UP
    | {"cases:decide", "switches:stop", "switches:write", "operate"},
    "approver": _DECIDE
    | {
        "approvals:read",
        "assets:read",
        "customers:read",
        "graphql:query",
        "wallets:read",
        "withdrawals:read",
    },
    "treasurer": _SEE_MONEY
    | _MOVE_MONEY
    | {"adjustments:decide", "exchanges:write", "switches:stop", "treasury:read", "treasury:write"},
    "compliance": _SEE_MONEY | _CASES | {"audit:read", "switches:stop"},
    "admin": _SEE_MONEY | _SEE_WORKINGS | _SEE_ACCESS | _ADMINISTER | {"switches:stop"},
    "automation": frozenset({UNATTENDED}),
}
"""Role to its permissions. `automation` lets a machine that also is an administrator act without a person."""

SCOPES: Mapping[str, frozenset[str]] = {
    "read": _SEE_MONEY | _SEE_WORKINGS,
    "write": _MOVE_MONEY,
    "approve": _DECIDE | {"approvals:read"},
    "operate": _SET_UP
    | _CASES
    | {
        "treasury:read",
        "webhooks:write",
        "switches:stop",
        "switches:write",
        "settings:write",
        UNATTENDED,
        "operate",
    },
}
"""Scopes of API keys that were issued before there were roles, and what each has always allowed."""

CUSTOMER_READS = frozenset(
    {
        "assets:read",
        "customers:read",
        "deposits:read",
        "events:watch",
        "graphql:query",
        "transfers:read",
        "wallets:read",
        "withdrawals:read",
    }
)
"""What every customer's token may see, of its customer alone."""
CUSTOMER_ACTS = frozenset({"transfers:request", "withdrawals:request", "withdrawals:cancel"})
"""What a customer's token may do with its own wallets, where the token says so."""

PERMISSIONS: frozenset[str] = frozenset().union(*ROLES.values(), *SCOPES.values())
"""Every permission there is."""

OWN_GRANTABLE = PERMISSIONS - ADMINISTRATIVE - {UNATTENDED}
"""What a role of a tenant's own may hold: who administers is a matter of the built-in roles alone. Told again in SQL."""


def permissions_of(roles: Iterable[str], scopes: Iterable[str] = ()) -> frozenset[str]:
    """What these roles and scopes allow together. Words that name none allow nothing."""
    found: frozenset[str] = frozenset()
    for role in roles:
        found |= ROLES.get(role, frozenset())
    for scope in scopes:
        found |= SCOPES.get(scope, frozenset())
    return found
