"""The signer's policy on the local stack: who must approve what. Its caps fit test money and nothing else."""

from __future__ import annotations

import json

from devnet import anvil
from devnet.config import EVM_CHAIN, STELLAR_CHAIN

SMALL = {
    ("stellar_payment", "native"): 10**9,
    ("stellar_channel_payment", "native"): 10**9,
    ("stellar_create_account", "native"): 10**9,
    ("stellar_fee_bump", "native"): 0,
    ("evm_transfer", "native"): 10**17,
    ("evm_erc20_transfer", anvil.FIRST_TOKEN): 10**9,
    ("evm_cancel", "native"): 0,
    ("evm_fill", "native"): 0,
}
"""What nobody is asked for on a stack with automatic limits: payments of an asset up to so many atomic units, and what keeps them
moving."""


def policy_document(approvers: dict[str, str], stellar_passphrase: str, *, automatic: bool = False) -> str:
    """The signer's policy: two of three people approve every payment within caps that fit test money, all three what leaves a
    cold vault. Machines make keys, and may sweep inward and send gas to our own addresses.

    `automatic`: payments within `SMALL` ask nobody.
    """
    people = [
        {"id": name, "keys": [{"type": "ed25519", "public_key": key}], "groups": ["treasury"]}
        for name, key in approvers.items()
    ]
    document = {
        "format": "custody-policy-v1",
        "version": 1,
        "approver_set_version": 1,
        "networks": {STELLAR_CHAIN: stellar_passphrase},
        "approvers": people,
        "address_book": {},
        "cosigned": [],
        "governance": {"approvals": _TWO_OF_THREE, "cool_down_s": 60},
        "deny": [],
        "allow": [
            *(_cold_rule(chain) for chain in (STELLAR_CHAIN, EVM_CHAIN)),
            _inward_rule("ether-sweeps", "deposit", "omnibus", "evm_sweep", "native", 10**21),
            _inward_rule("token-sweeps", "deposit", "omnibus", "evm_erc20_sweep", anvil.FIRST_TOKEN, 10**15),
            _inward_rule("gas-for-sweeps", "gas", "deposit", "evm_sweep", "native", 10**18),
            _inward_rule("gas-filling", "omnibus", "gas", "evm_sweep", "native", 10**18),
            _rule("ether-moves", EVM_CHAIN, "evm_sweep", 10**21, 10**17),
            _rule("token-moves", EVM_CHAIN, "evm_erc20_sweep", 10**15, 10**17),
            *(_small_rule(kind, asset, most) for (kind, asset), most in SMALL.items() if automatic),
            _rule("stellar-payments", STELLAR_CHAIN, "stellar_payment", 10**15, 100_000),
            _rule("stellar-claimables", STELLAR_CHAIN, "stellar_create_claimable_balance", 10**15, 100_000),
            _rule("stellar-trustlines", STELLAR_CHAIN, "stellar_change_trust", 2**63 - 1, 100_000),
            _rule("stellar-anchors", STELLAR_CHAIN, "stellar_anchor", 0, 100_000),
            _rule("stellar-memos", STELLAR_CHAIN, "stellar_memo_required", 0, 100_000),
            _rule("ether-payments", EVM_CHAIN, "evm_transfer", 10**21, 10**17),
            _rule("token-payments", EVM_CHAIN, "evm_erc20_transfer", 10**15, 10**17),
            _rule("nonce-cancels", EVM_CHAIN, "evm_cancel", 0, 10**17),
            _rule("nonce-fills", EVM_CHAIN, "evm_fill", 0, 10**17),
            _deposit_key_rule(),
            *(_key_rule(curve) for curve in ("ed25519", "secp256k1")),
            *(_key_state_rule(curve) for curve in ("ed25519", "secp256k1")),
        ],
    }
    return json.dumps(document, indent=2)


_TWO_OF_THREE = [{"group": "treasury", "threshold": 2}]


def _rule(name: str, chain: str, kind: str, amount_max: int, fee_max: int) -> dict[str, object]:
    return {
        "id": name,
        "org": "*",
        "vault": "*",
        "key": "*",
        "chain": chain,
        "kind": kind,
        "asset": "*",
        "destinations": ["*"],
        "amount_max": str(amount_max),
        "fee_max": str(fee_max),
        "windows": [],
        "hours": [],
        "approvals": _TWO_OF_THREE,
        "cool_down_s": 0,
    }


def _cold_rule(chain: str) -> dict[str, object]:
    """Whatever leaves a cold vault is asked of all three. Before the rules for everybody: the first that covers decides."""
    everybody = [{"group": "treasury", "threshold": 3}]
    return _rule(f"cold-{chain.partition(':')[0]}", chain, "*", 10**21, 10**17) | {
        "vault": "cold",
        "approvals": everybody,
    }


def _inward_rule(
    name: str, vault: str, into: str, kind: str, asset: str, amount_max: int
) -> dict[str, object]:
    """Nobody is asked about money that goes from one vault of ours to this other one: the signer looks its key up."""
    window = {"seconds": 3600, "amount_max": str(amount_max), "count_max": 10_000}
    inward = {"vault": vault, "asset": asset, "destinations": [f"vault:{into}"], "windows": [window]}
    return _rule(name, EVM_CHAIN, kind, amount_max, 10**17) | inward | {"approvals": []}


def _small_rule(kind: str, asset: str, amount_max: int) -> dict[str, object]:
    """Nobody is asked, within a window so wide that no test reaches its end."""
    window = {"seconds": 86_400, "amount_max": str(2**100), "count_max": 2**31 - 1}
    chain, fee_max = (STELLAR_CHAIN, 10**7) if kind.startswith("stellar") else (EVM_CHAIN, 10**17)
    automatic = {"asset": asset, "windows": [window], "approvals": []}
    return _rule(f"small-{kind}", chain, kind, amount_max, fee_max) | automatic


def _key_rule(curve: str) -> dict[str, object]:
    """Keys are made on demand, but no machine may fill the token with them."""
    window = {"seconds": 3600, "amount_max": "0", "count_max": 1000}
    automatic = {"asset": "none", "windows": [window], "approvals": []}
    return _rule(f"{curve}-keys", curve, "key_create", 0, 0) | automatic


def _deposit_key_rule() -> dict[str, object]:
    """Keys for deposit addresses are made ahead, so many that they must not use up what other keys need."""
    window = {"seconds": 3600, "amount_max": "0", "count_max": 20_000}
    automatic = {"asset": "none", "windows": [window], "approvals": [], "vault": "deposit"}
    return _rule("deposit-keys", "secp256k1", "key_create", 0, 0) | automatic


def _key_state_rule(curve: str) -> dict[str, object]:
    return _rule(f"{curve}-key-states", curve, "key_state", 0, 0) | {"asset": "none"}
