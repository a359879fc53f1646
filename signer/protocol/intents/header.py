"""What every intent that a key signs says about itself, and what the table of kinds holds about each kind.

The shapes inherit their header fields, against the habit of this package: nine fields in twenty kinds would hide the few that
matter in each.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from signer.protocol import fields as check

Parser = Callable[[str], str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Who asks, with which key, on which chain, and until when."""

    org: str
    """Tenant that owns the key."""
    vault: str
    """Group of keys inside the tenant that policy speaks about."""
    key_id: str
    """CKA_ID of the HSM key, 32 lower-case hex characters."""
    chain: str
    """CAIP-2 chain name: "stellar:NAME" or "eip155:CHAIN_ID"."""
    request_id: str
    """UUID given by the requester; makes two equal payments two intents."""
    initiator: str
    """Principal who asked; may veto but never approve."""
    policy_version: int
    """Version of the signer's policy that the approvers saw; any other version in force refuses."""
    not_before: int
    """Unix seconds before which the signer refuses."""
    expires_at: int
    """Unix seconds from which on the signer refuses; also the highest time bound of a Stellar transaction."""
    source: str
    """Address of the key: G address, or EIP-55 address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One row of the table of kinds."""

    shape: type[Any]
    """The frozen dataclass."""
    parsers: Mapping[str, Parser]
    """One per field of the shape: text to value, or ValueError with a refusal code."""
    check: Callable[[Any], None]
    """What needs more than one field; raises ValueError(code, field)."""


HEADER: Mapping[str, Parser] = {
    "org": check.parse_name,
    "vault": check.parse_name,
    "key_id": check.parse_key_id,
    "request_id": check.parse_uuid,
    "initiator": check.parse_name,
    "policy_version": check.parse_integer(1, 2**31 - 1),
    "not_before": check.parse_integer(0, check.TIME_MAX),
    "expires_at": check.parse_integer(1, check.TIME_MAX),
}
STELLAR_HEADER: Mapping[str, Parser] = {
    **HEADER,
    "chain": check.parse_stellar_chain,
    "source": check.parse_account,
}
EVM_HEADER: Mapping[str, Parser] = {
    **HEADER,
    "chain": check.parse_evm_chain,
    "source": check.parse_evm_address,
}


def nothing_more(_intent: Any) -> None:
    """The check of a kind whose fields do not depend on each other."""
