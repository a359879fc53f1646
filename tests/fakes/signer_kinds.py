"""One valid intent of every kind, and a binding that fits it: what the tests of all kinds go through."""

from collections.abc import Mapping
from typing import Any

from stellar_sdk import MuxedAccount, StrKey

from signer.protocol import canonical
from signer.protocol.intent import (
    EvmIntent,
    Intent,
    MessageIntent,
    StellarContractPayment,
    StellarFeeBump,
    StellarIntent,
)
from signer.protocol.messages import (
    Binding,
    ContractBinding,
    FeeBinding,
    KeyView,
    NoBinding,
)
from tests.fakes.signer_people import (
    CUSTOMER,
    ISSUER,
    NETWORK_ID,
    RECEIVER,
    TOKEN,
    bind_evm,
    bind_stellar,
    make_header,
)

CONTRACT = StrKey.encode_contract(bytes(range(32)))
CREDIT = f"USDC:{ISSUER}"
LONG = f"LONGCODE1234:{ISSUER}"
OTHER = "0x1aE0EA34a72D944a8C7603FfB3eC30a6669E454C"
EARLIER = "ab" * 32
"""Stands for the digest of an intent signed before."""

_TO = {"destination": CUSTOMER, "memo_type": "none", "memo": ""}
_GAS = {"gas_limit": 60_000, "max_fee_per_gas": 30 * 10**9, "max_priority_fee_per_gas": 2 * 10**9}
_OWN = {"destination": OTHER, "destination_vault": "treasury"}

SAMPLES: Mapping[str, Mapping[str, Any]] = {
    "stellar_payment": {**_TO, "asset": "native", "amount": 12_345_678},
    "stellar_channel_payment": {**_TO, "asset": CREDIT, "amount": 7, "channel": ISSUER},
    "stellar_contract_payment": {"destination": CONTRACT, "asset": CREDIT, "amount": 2**63 - 1},
    "stellar_create_account": {"destination": CUSTOMER, "amount": 10**7},
    "stellar_create_claimable_balance": {
        **_TO,
        "memo_type": "id",
        "memo": "77",
        "asset": CREDIT,
        "amount": 25_000_000,
    },
    "stellar_path_payment_strict_send": {
        **_TO,
        "destination": MuxedAccount(CUSTOMER, 77).account_muxed,
        "send_asset": "native",
        "send_amount": 500,
        "dest_asset": CREDIT,
        "dest_min": 3,
        "path": f"native,{LONG}",
    },
    "stellar_path_payment_strict_receive": {
        **_TO,
        "memo_type": "id",
        "memo": "9",
        "send_asset": CREDIT,
        "send_max": 500,
        "dest_asset": LONG,
        "dest_amount": 3,
        "path": "",
    },
    "stellar_change_trust": {"asset": LONG, "limit": 5 * 10**7},
    "stellar_anchor": {"hash": "5a" * 32},
    "stellar_account_merge": {"destination": CUSTOMER, "destination_vault": "treasury"},
    "stellar_set_options": {
        "signer_key": CUSTOMER,
        "signer_weight": "1",
        "master_weight": "",
        "low_threshold": "0",
        "med_threshold": "2",
        "high_threshold": "255",
    },
    "stellar_claim_claimable_balance": {"balance_id": "cd" * 32},
    "stellar_memo_required": {},
    "stellar_fee_bump": {"inner": EARLIER},
    "evm_transfer": {**_GAS, "destination": RECEIVER, "amount": 10**18},
    "evm_erc20_transfer": {**_GAS, "token": TOKEN, "destination": RECEIVER, "amount": 123_456},
    "evm_sweep": {**_GAS, **_OWN, "amount": 10**17},
    "evm_erc20_sweep": {**_GAS, **_OWN, "token": TOKEN, "amount": 99},
    "evm_erc20_approve": {**_GAS, "token": TOKEN, "spender": RECEIVER, "amount": 2**96 - 2},
    "evm_replace": {
        **_GAS,
        "replaces": EARLIER,
        "replaced_kind": "evm_transfer",
        "asset": "native",
        "destination": RECEIVER,
        "amount": 10**18,
    },
    "evm_cancel": {**_GAS, "cancels": EARLIER},
    "evm_fill": {**_GAS},
    "stellar_message": {"text": 'for "you" \\\\ me\\nnonce 7'},
    "evm_message": {"text": "nonce 7"},
}


def curve_of_kind(kind: str) -> str:
    """Return the curve of the keys that sign intents of this kind."""
    return "ed25519" if kind.startswith("stellar_") else "secp256k1"


def make_kind(kind: str, key: KeyView, now: int, **changes: Any) -> Any:
    """Return a valid intent of this kind with some of its fields changed. Typed loosely, as tests spoil it at will."""
    fields = {**make_header(key, now), **SAMPLES[kind], "chain": "stellar:devnet"}
    names = canonical.KINDS[kind].parsers
    if "network_id" in names:
        fields |= {"network_id": NETWORK_ID, "max_fee": 1000}
    if kind.startswith("evm_"):
        fields["chain"] = "eip155:31337"
    if "chain_id" in names:
        fields["chain_id"] = 31337
    return canonical.KINDS[kind].shape(**fields | changes)


def bind_kind(intent: Intent, number: int) -> Binding:
    """Return a binding that fits the intent, on this sequence number or nonce."""
    match intent:
        case StellarContractPayment():
            return ContractBinding(
                frame=bind_stellar(intent, number),
                instructions=400_000,
                disk_read_bytes=500,
                write_bytes=300,
                resource_fee=intent.max_fee - 100,
            )
        case StellarFeeBump():
            return FeeBinding(fee=intent.max_fee)
        case _ if isinstance(intent, MessageIntent):
            return NoBinding()
        case _ if isinstance(intent, EvmIntent):
            return bind_evm(number)
    assert isinstance(intent, StellarIntent)
    return bind_stellar(intent, number)
