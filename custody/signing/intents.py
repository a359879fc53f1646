"""Intents: the canonical bytes that approvers sign and the signer obeys, built and read here and in no other place of ours.

The bytes are kept and passed on as they were built; nothing decodes and encodes them in between. Source: signer/protocol/SPEC.md.
"""

from __future__ import annotations

from dataclasses import fields
from uuid import UUID

from custody.kernel.assetid import AssetId
from custody.policy.model import Facts
from custody.signing.errors import InvalidIntent
from custody.signing.intent_fields import (
    Caps,
    EvmCaps,
    Header,
    Paid,
    Payment,
    Price,
    Source,
    StellarCaps,
    build_header,
    build_price,
    decode,
    encode,
    network_id,
)
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
    MemoType,
    StellarAnchor,
    StellarChangeTrust,
    StellarChannelPayment,
    StellarClaimablePayment,
    StellarCreateAccount,
    StellarFeeBump,
    StellarIntent,
    StellarMemoRequired,
    StellarPayment,
)

TRUST_LIMIT_MAX = 2**63 - 1
"""The highest limit of a trustline in stroops."""
_ERC20 = "erc20:"


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
    claimable: bool = False,
    into_vault: str = "",
) -> bytes:
    """The bytes of one payment, on Stellar in a transaction of `channel` where one is given, or, `claimable`, set aside for the
    destination to claim. Raises InvalidIntent when a value is outside the protocol's range. On EVM `into_vault` names the vault
    of ours that the destination is in, if it is."""
    header = build_header(source)
    if isinstance(caps, StellarCaps):
        payment: Payment = {
            "network_id": network_id(caps),
            "max_fee": caps.max_fee,
            "destination": destination,
            "memo_type": memo_type,
            "memo": memo,
            "asset": asset.reference,
            "amount": amount,
        }
        if claimable:
            return encode(StellarClaimablePayment(**header, **payment))
        if channel:
            return encode(StellarChannelPayment(**header, **payment, channel=channel))
        return encode(StellarPayment(**header, **payment))
    if memo_type != "none":
        raise InvalidIntent(reason="bad_memo", field="memo")
    price, token = build_price(caps), asset.reference.removeprefix(_ERC20)
    paid: Paid = {"destination": destination, "amount": amount}
    if into_vault and asset.is_native:
        return encode(EvmSweep(**header, **price, **paid, destination_vault=into_vault))
    if into_vault:
        return encode(EvmErc20Sweep(**header, **price, **paid, token=token, destination_vault=into_vault))
    if asset.is_native:
        return encode(EvmTransfer(**header, **price, **paid))
    return encode(EvmErc20Transfer(**header, **price, **paid, token=token))


def build_create_account_intent(source: Source, caps: StellarCaps, *, amount: int, destination: str) -> bytes:
    """The bytes of opening a Stellar account with native money. Raises InvalidIntent."""
    return encode(
        StellarCreateAccount(
            **build_header(source),
            network_id=network_id(caps),
            max_fee=caps.max_fee,
            destination=destination,
            amount=amount,
        )
    )


def build_fee_bump_intent(source: Source, caps: StellarCaps, *, inner: bytes) -> bytes:
    """The bytes of paying up to `caps.max_fee` for what was signed under the intent of this digest. Raises InvalidIntent.

    Source: CAP-15.
    """
    return encode(
        StellarFeeBump(
            **build_header(source), network_id=network_id(caps), max_fee=caps.max_fee, inner=inner.hex()
        )
    )


def build_trustline_intent(source: Source, caps: StellarCaps, *, asset: AssetId) -> bytes:
    """The bytes of opening a trustline without limit to a credit asset. Raises InvalidIntent."""
    return encode(
        StellarChangeTrust(
            **build_header(source),
            network_id=network_id(caps),
            max_fee=caps.max_fee,
            asset=asset.reference,
            limit=TRUST_LIMIT_MAX,
        )
    )


def build_anchor_intent(source: Source, caps: StellarCaps, *, seal_hash: bytes) -> bytes:
    """The bytes of writing a hash into the chain's history, by a payment of the vault to itself. Raises InvalidIntent."""
    return encode(
        StellarAnchor(
            **build_header(source), network_id=network_id(caps), max_fee=caps.max_fee, hash=seal_hash.hex()
        )
    )


def build_memo_required_intent(source: Source, caps: StellarCaps) -> bytes:
    """The bytes of having the account ask its senders for a memo. Raises InvalidIntent. Source: SEP-29."""
    return encode(
        StellarMemoRequired(**build_header(source), network_id=network_id(caps), max_fee=caps.max_fee)
    )


def build_cancel_intent(source: Source, caps: EvmCaps, *, cancels: bytes) -> bytes:
    """The bytes of using up a nonce for nothing; `cancels` is the digest of the first intent on it. Raises InvalidIntent."""
    return encode(EvmCancel(**build_header(source), **build_price(caps), cancels=cancels.hex()))


def build_fill_intent(source: Source, caps: EvmCaps) -> bytes:
    """The bytes of using up a nonce that nothing was signed for. Raises InvalidIntent."""
    return encode(EvmFill(**build_header(source), **build_price(caps)))


def build_replacement_intent(
    first: bytes, *, request_id: UUID, policy_version: int, not_before: int, expires_at: int
) -> bytes:
    """The bytes of the same effect on the same nonce at another price, under the same caps. Raises InvalidIntent."""
    value = decode(first)
    if not isinstance(value, EvmTransfer | EvmSweep | EvmErc20Transfer | EvmErc20Sweep):
        raise InvalidIntent(reason="unknown_kind", field="kind")
    header: Header = {
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
    price: Price = {
        "chain_id": value.chain_id,
        "gas_limit": value.gas_limit,
        "max_fee_per_gas": value.max_fee_per_gas,
        "max_priority_fee_per_gas": value.max_priority_fee_per_gas,
    }
    return encode(
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
    return isinstance(decode(intent), EvmTransfer | EvmSweep | EvmErc20Transfer | EvmErc20Sweep)


def digest(intent: bytes) -> bytes:
    """The 32 bytes that name this intent everywhere."""
    return canonical.digest(intent)


def show(intent: bytes) -> dict[str, str]:
    """Every field as text, with `kind`: what an approver is shown. Raises InvalidIntent."""
    value = decode(intent)
    return {"kind": canonical.kind_of(value)} | {
        field.name: str(getattr(value, field.name)) for field in fields(value)
    }


def facts_of(intent: bytes) -> Facts:
    """What policy judges. Raises InvalidIntent."""
    match value := decode(intent):
        case StellarPayment() | StellarChannelPayment() | StellarClaimablePayment():
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
        needs_own_rule=isinstance(value, StellarClaimablePayment),
    )


def price_caps(intent: bytes) -> tuple[int, int]:
    """The highest bid that the intent allows: stroops and 0, or wei per gas and wei of tip per gas. Raises InvalidIntent."""
    value = decode(intent)
    if isinstance(value, StellarIntent):
        return value.max_fee, 0
    if isinstance(value, EvmIntent):
        return value.max_fee_per_gas, value.max_priority_fee_per_gas
    raise InvalidIntent(reason="unknown_kind", field="kind")


def evm_spend(intent: bytes, price: int) -> int:
    """Wei that the sender must hold for this intent at `price` wei per gas: value and all of the gas. Raises InvalidIntent."""
    match value := decode(intent):
        case EvmTransfer() | EvmSweep():
            return value.amount + value.gas_limit * price
        case EvmErc20Transfer() | EvmErc20Sweep() | EvmCancel() | EvmFill():
            return value.gas_limit * price
        case _:
            raise InvalidIntent(reason="not_evm", field="chain")
