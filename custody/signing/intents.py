"""Intents: the canonical bytes that approvers sign and the signer obeys, built and read here and in no other place of ours.

The bytes are kept and passed on as they were built; nothing decodes and encodes them in between. Source: signer/protocol/SPEC.md.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from typing import TypedDict
from uuid import UUID

from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import TenantId
from custody.policy.model import Facts
from custody.signing.errors import InvalidIntent
from signer.protocol import canonical
from signer.protocol.intent import (
    EvmCancel,
    EvmErc20Sweep,
    EvmErc20Transfer,
    EvmFill,
    EvmIntent,
    EvmReplace,
    EvmSweep,
    EvmTransfer,
    Intent,
    MemoType,
    StellarAnchor,
    StellarChangeTrust,
    StellarChannelPayment,
    StellarCreateAccount,
    StellarFeeBump,
    StellarIntent,
    StellarMemoRequired,
    StellarPayment,
)

TRUST_LIMIT_MAX = 2**63 - 1
"""The highest limit of a trustline in stroops."""
_ERC20 = "erc20:"


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


class _Header(TypedDict):
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


class _Price(TypedDict):
    """The fields that every EVM intent has beyond the header."""

    chain_id: int
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int


class _Paid(TypedDict):
    destination: str
    amount: int


class _Payment(_Paid):
    """The fields that a Stellar payment has beyond the header, whoever lends the sequence number."""

    network_id: str
    max_fee: int
    memo_type: MemoType
    memo: str
    asset: str


def org_name(tenant: TenantId) -> str:
    """How intents and the signer's policy call a tenant."""
    return f"tenant-{tenant}"


def build_payment_intent(
    source: Source,
    caps: Caps,
    *,
    asset: AssetId,
    amount: int,
    destination: str,
    memo_type: MemoType = "none",
    memo: str = "",
    channel: str = "",
    into_vault: str = "",
) -> bytes:
    """The bytes of one payment, on Stellar in a transaction of `channel` where one is given. Raises InvalidIntent when a value is
    outside the protocol's range. On EVM `into_vault` names the vault of ours that the destination is in, if it is."""
    header = _header(source)
    if isinstance(caps, StellarCaps):
        payment: _Payment = {
            "network_id": _network_id(caps),
            "max_fee": caps.max_fee,
            "destination": destination,
            "memo_type": memo_type,
            "memo": memo,
            "asset": asset.reference,
            "amount": amount,
        }
        if channel:
            return _encode(StellarChannelPayment(**header, **payment, channel=channel))
        return _encode(StellarPayment(**header, **payment))
    if memo_type != "none":
        raise InvalidIntent(reason="bad_memo", field="memo")
    price, token = _price(caps), asset.reference.removeprefix(_ERC20)
    paid: _Paid = {"destination": destination, "amount": amount}
    if into_vault and asset.is_native:
        return _encode(EvmSweep(**header, **price, **paid, destination_vault=into_vault))
    if into_vault:
        return _encode(EvmErc20Sweep(**header, **price, **paid, token=token, destination_vault=into_vault))
    if asset.is_native:
        return _encode(EvmTransfer(**header, **price, **paid))
    return _encode(EvmErc20Transfer(**header, **price, **paid, token=token))


def build_create_account_intent(source: Source, caps: StellarCaps, *, amount: int, destination: str) -> bytes:
    """The bytes of opening a Stellar account with native money. Raises InvalidIntent."""
    return _encode(
        StellarCreateAccount(
            **_header(source),
            network_id=_network_id(caps),
            max_fee=caps.max_fee,
            destination=destination,
            amount=amount,
        )
    )


def build_fee_bump_intent(source: Source, caps: StellarCaps, *, inner: bytes) -> bytes:
    """The bytes of paying up to `caps.max_fee` for what was signed under the intent of this digest. Raises InvalidIntent.

    Source: CAP-15.
    """
    return _encode(
        StellarFeeBump(
            **_header(source), network_id=_network_id(caps), max_fee=caps.max_fee, inner=inner.hex()
        )
    )


def build_trustline_intent(source: Source, caps: StellarCaps, *, asset: AssetId) -> bytes:
    """The bytes of opening a trustline without limit to a credit asset. Raises InvalidIntent."""
    return _encode(
        StellarChangeTrust(
            **_header(source),
            network_id=_network_id(caps),
            max_fee=caps.max_fee,
            asset=asset.reference,
            limit=TRUST_LIMIT_MAX,
        )
    )


def build_anchor_intent(source: Source, caps: StellarCaps, *, seal_hash: bytes) -> bytes:
    """The bytes of writing a hash into the chain's history, by a payment of the vault to itself. Raises InvalidIntent."""
    return _encode(
        StellarAnchor(
            **_header(source), network_id=_network_id(caps), max_fee=caps.max_fee, hash=seal_hash.hex()
        )
    )


def build_memo_required_intent(source: Source, caps: StellarCaps) -> bytes:
    """The bytes of having the account ask its senders for a memo. Raises InvalidIntent. Source: SEP-29."""
    return _encode(StellarMemoRequired(**_header(source), network_id=_network_id(caps), max_fee=caps.max_fee))


def build_cancel_intent(source: Source, caps: EvmCaps, *, cancels: bytes) -> bytes:
    """The bytes of using up a nonce for nothing; `cancels` is the digest of the first intent on it. Raises InvalidIntent."""
    return _encode(EvmCancel(**_header(source), **_price(caps), cancels=cancels.hex()))


def build_fill_intent(source: Source, caps: EvmCaps) -> bytes:
    """The bytes of using up a nonce that nothing was signed for. Raises InvalidIntent."""
    return _encode(EvmFill(**_header(source), **_price(caps)))


def build_replacement_intent(
    first: bytes, *, request_id: UUID, policy_version: int, not_before: int, expires_at: int
) -> bytes:
    """The bytes of the same effect on the same nonce at another price, under the same caps. Raises InvalidIntent."""
    value = _decode(first)
    if not isinstance(value, EvmTransfer | EvmSweep | EvmErc20Transfer | EvmErc20Sweep):
        raise InvalidIntent(reason="unknown_kind", field="kind")
    header: _Header = {
        "org": value.org,
        "vault": value.vault,
        "key_id": value.key_id,
        "chain": value.chain,
        "request_id": str(request_id),
        "initiator": value.initiator,
        "policy_version": policy_version,
        "not_before": not_before,
        "expires_at": expires_at,
        "source": value.source,
    }
    price: _Price = {
        "chain_id": value.chain_id,
        "gas_limit": value.gas_limit,
        "max_fee_per_gas": value.max_fee_per_gas,
        "max_priority_fee_per_gas": value.max_priority_fee_per_gas,
    }
    return _encode(
        EvmReplace(
            **header,
            **price,
            replaces=digest(first).hex(),
            replaced_kind=canonical.kind_of(value),
            asset=value.token if isinstance(value, EvmErc20Transfer | EvmErc20Sweep) else "native",
            destination=value.destination,
            amount=value.amount,
        )
    )


def is_replaceable(intent: bytes) -> bool:
    """Whether `build_replacement_intent` makes a replacement of it. Raises InvalidIntent."""
    return isinstance(_decode(intent), EvmTransfer | EvmSweep | EvmErc20Transfer | EvmErc20Sweep)


def digest(intent: bytes) -> bytes:
    """The 32 bytes that name this intent everywhere."""
    return canonical.digest(intent)


def show(intent: bytes) -> dict[str, str]:
    """Every field as text, with `kind`: what an approver is shown. Raises InvalidIntent."""
    value = _decode(intent)
    return {"kind": canonical.kind_of(value)} | {
        field.name: str(getattr(value, field.name)) for field in fields(value)
    }


def facts_of(intent: bytes) -> Facts:
    """What policy judges. Raises InvalidIntent."""
    match value := _decode(intent):
        case StellarPayment() | StellarChannelPayment():
            asset, destination, amount, fee_max = value.asset, value.destination, value.amount, value.max_fee
        case StellarCreateAccount():
            asset, destination, amount, fee_max = "native", value.destination, value.amount, value.max_fee
        case StellarChangeTrust():
            asset, destination = value.asset, value.asset.partition(":")[2]
            amount, fee_max = value.limit, value.max_fee
        case StellarAnchor() | StellarMemoRequired() | StellarFeeBump():
            asset, destination, amount, fee_max = "native", value.source, 0, value.max_fee
        case EvmCancel() | EvmFill():
            asset, destination, amount = "native", value.source, 0
            fee_max = value.gas_limit * value.max_fee_per_gas
        case EvmReplace() | EvmTransfer() | EvmSweep():
            asset = value.asset if isinstance(value, EvmReplace) else "native"
            destination, amount = value.destination, value.amount
            fee_max = value.gas_limit * value.max_fee_per_gas
        case EvmErc20Transfer() | EvmErc20Sweep():
            asset, destination, amount = value.token, value.destination, value.amount
            fee_max = value.gas_limit * value.max_fee_per_gas
        case _:
            raise InvalidIntent(reason="unknown_kind", field="kind")
    return Facts(
        org=value.org,
        vault=value.vault,
        key=value.key_id,
        chain=value.chain,
        kind=canonical.kind_of(value),
        asset=asset,
        destination=destination,
        amount=amount,
        fee_max=fee_max,
        initiator=value.initiator,
        policy_version=value.policy_version,
        into_vault=value.destination_vault if isinstance(value, EvmSweep | EvmErc20Sweep) else "",
    )


def price_caps(intent: bytes) -> tuple[int, int]:
    """The highest bid that the intent allows: stroops and 0, or wei per gas and wei of tip per gas. Raises InvalidIntent."""
    value = _decode(intent)
    if isinstance(value, StellarIntent):
        return value.max_fee, 0
    if isinstance(value, EvmIntent):
        return value.max_fee_per_gas, value.max_priority_fee_per_gas
    raise InvalidIntent(reason="unknown_kind", field="kind")


def evm_spend(intent: bytes, price: int) -> int:
    """Wei that the sender must hold for this intent at `price` wei per gas: value and all of the gas. Raises InvalidIntent."""
    match value := _decode(intent):
        case EvmTransfer() | EvmSweep():
            return value.amount + value.gas_limit * price
        case EvmErc20Transfer() | EvmErc20Sweep() | EvmCancel() | EvmFill():
            return value.gas_limit * price
        case _:
            raise InvalidIntent(reason="not_evm", field="chain")


def _header(source: Source) -> _Header:
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


def _price(caps: EvmCaps) -> _Price:
    return {
        "chain_id": caps.chain_id,
        "gas_limit": caps.gas_limit,
        "max_fee_per_gas": caps.max_fee_per_gas,
        "max_priority_fee_per_gas": caps.max_priority_fee_per_gas,
    }


def _network_id(caps: StellarCaps) -> str:
    return hashlib.sha256(caps.network_passphrase.encode()).hexdigest()


def _encode(intent: Intent) -> bytes:
    try:
        return canonical.encode(intent)
    except canonical.MalformedIntent as error:
        raise InvalidIntent(reason=error.code, field=error.field) from error


def _decode(intent: bytes) -> Intent:
    try:
        return canonical.decode(intent)
    except canonical.MalformedIntent as error:
        raise InvalidIntent(reason=error.code, field=error.field) from error
