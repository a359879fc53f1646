"""What intents of ours have in common: who pays and asks, what it may cost, and how that is written.

Source: signer/protocol/SPEC.md section 2.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypedDict
from uuid import UUID

from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId
from custody.signing.errors import InvalidIntent
from signer.protocol import canonical
from signer.protocol.intent import Intent, MemoType


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The vault that pays and who asks, under which policy and until when."""

    tenant: TenantId
    """Owner of the key."""
    purpose: str
    """Purpose of the vault: the group of keys that policy speaks about."""
    key_id: str
    """Key in the HSM, hexadecimal."""
    chain: ChainId
    """Chain of the vault."""
    account: str
    """Address of the vault."""
    request_id: UUID
    """Id of the withdrawal."""
    initiator: str
    """Subject of the principal who asked."""
    policy_version: int
    """Version of the policy that approvers will see."""
    not_before: int
    """Unix seconds."""
    expires_at: int
    """Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarCaps:
    """What a Stellar intent allows beyond its effect."""

    network_passphrase: str
    """Names the network; only its hash is written."""
    max_fee: int
    """Stroops for the whole transaction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmCaps:
    """What an EVM intent allows beyond its effect."""

    chain_id: int
    """EIP-155 chain id."""
    gas_limit: int
    """Gas units."""
    max_fee_per_gas: int
    """Wei."""
    max_priority_fee_per_gas: int
    """Wei."""


Caps = StellarCaps | EvmCaps


class Header(TypedDict):
    """The fields that every intent has."""

    org: str
    vault: str
    key_id: str
    chain: str
    request_id: str
    initiator: str
    policy_version: int
    not_before: int
    expires_at: int
    source: str


class Price(TypedDict):
    """The fields that every EVM intent has beyond the header."""

    chain_id: int
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int


class Paid(TypedDict):
    """To whom, and how much."""

    destination: str
    amount: int


class Payment(Paid):
    """The fields that a Stellar payment has beyond the header, whoever lends the sequence number."""

    network_id: str
    max_fee: int
    memo_type: MemoType
    memo: str
    asset: str


def org_name(tenant: TenantId) -> str:
    """How intents and the signer's policy call a tenant."""
    return f"tenant-{tenant}"


def build_header(source: Source) -> Header:
    """The fields that say who pays and who asks."""
    return {
        "org": org_name(source.tenant),
        "vault": source.purpose,
        "key_id": source.key_id,
        "chain": str(source.chain),
        "request_id": str(source.request_id),
        "initiator": source.initiator,
        "policy_version": source.policy_version,
        "not_before": source.not_before,
        "expires_at": source.expires_at,
        "source": source.account,
    }


def build_price(caps: EvmCaps) -> Price:
    """The fields that say what an EVM transaction may cost."""
    return {
        "chain_id": caps.chain_id,
        "gas_limit": caps.gas_limit,
        "max_fee_per_gas": caps.max_fee_per_gas,
        "max_priority_fee_per_gas": caps.max_priority_fee_per_gas,
    }


def network_id(caps: StellarCaps) -> str:
    """How an intent names the network. Source: Stellar-transaction.x, networkId."""
    return hashlib.sha256(caps.network_passphrase.encode()).hexdigest()


def encode(intent: Intent) -> bytes:
    """The canonical bytes. Raises InvalidIntent."""
    try:
        return canonical.encode(intent)
    except canonical.MalformedIntent as error:
        raise InvalidIntent(reason=error.code, field=error.field) from error


def decode(intent: bytes) -> Intent:
    """What canonical bytes say. Raises InvalidIntent."""
    try:
        return canonical.decode(intent)
    except canonical.MalformedIntent as error:
        raise InvalidIntent(reason=error.code, field=error.field) from error
