"""Approvers with keys of their own, a policy for them, and valid intents: what signer tests start from and then spoil."""

import hashlib
import json
from dataclasses import asdict
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from stellar_sdk import Keypair

from signer.build.address import address_of
from signer.protocol import canonical, governance, stops
from signer.protocol.approvals import GOVERNANCE_TAG, STOP_TAG, Approval, RawSignature, approval_message
from signer.protocol.governance import KeyCreate, KeyStateChange, PolicyChange, SigningResume
from signer.protocol.intent import (
    EvmErc20Transfer,
    EvmTransfer,
    StellarAnchor,
    StellarChangeTrust,
    StellarIntent,
    StellarPayment,
)
from signer.protocol.messages import EvmBinding, KeyView, StellarBinding
from signer.protocol.stops import StopOrder
from tests.fakes.signer_hsm import FakeToken

PASSPHRASE = "Custody Devnet ; 2026"
NETWORK_ID = hashlib.sha256(PASSPHRASE.encode()).hexdigest()
APPROVERS = ("alice", "bob", "carol")
ISSUER = Keypair.from_raw_ed25519_seed(bytes([3]) * 32).public_key
CUSTOMER = Keypair.from_raw_ed25519_seed(bytes([2]) * 32).public_key
RECEIVER = "0x2B5AD5c4795c026514f8317c7a215E218DcCD6cF"
TOKEN = "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"


def approver_key(name: str) -> Ed25519PrivateKey:
    """Return a person's test key, the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def public_hex(key: Ed25519PrivateKey) -> str:
    """Return the raw public key in hex."""
    return key.public_key().public_bytes_raw().hex()


def key_entry(key: Ed25519PrivateKey) -> dict[str, str]:
    """Return the key as the policy lists it."""
    return {"type": "ed25519", "public_key": public_hex(key)}


def approve(data: bytes, *names: str, decision: str = "approve", version: int = 1) -> tuple[Approval, ...]:
    """Return the approvals of these people for canonical bytes, of a transaction or of governance."""
    if governance.is_governance(data):
        message = approval_message(
            decision=decision,
            digest=governance.digest(data),
            approver_set_version=version,
            tag=GOVERNANCE_TAG,
        )
    elif b'"kind":"signing_stop"' in data:
        message = approval_message(
            decision=decision, digest=stops.digest(data), approver_set_version=version, tag=STOP_TAG
        )
    else:
        message = approval_message(
            decision=decision, digest=canonical.digest(data), approver_set_version=version
        )
    return tuple(
        Approval(
            approver=name,
            public_key=public_hex(approver_key(name)),
            decision=decision,
            evidence=RawSignature(signature=approver_key(name).sign(message)),
        )
        for name in names
    )


def make_rule(name: str, **changes: object) -> dict[str, object]:
    """Return an allow rule: 2 of the treasury for everything on the local EVM chain."""
    return {
        "id": name, "org": "*", "vault": "*", "key": "*", "chain": "eip155:31337", "kind": "*", "asset": "*",
        "destinations": ["*"], "amount_max": str(10**24), "fee_max": str(10**18), "windows": [], "hours": [],
        "approvals": [{"group": "treasury", "threshold": 2}], "cool_down_s": 0, **changes,
    }  # fmt: skip


def make_key_rule(curve: str, **changes: object) -> dict[str, object]:
    """Return an automatic rule that lets keys of a curve be made."""
    window = {"seconds": 60, "amount_max": "0", "count_max": 1000}
    return make_rule(
        f"keys-{curve}",
        **{
            "chain": curve, "kind": "key_create", "asset": "none", "amount_max": "0", "fee_max": "0",
            "windows": [window], "approvals": [], **changes,
        },
    )  # fmt: skip


def key_rules() -> list[dict[str, object]]:
    """Return the automatic rules that let keys of both curves be made."""
    return [make_key_rule("ed25519"), make_key_rule("secp256k1")]


def chain_of_kind(kind: str) -> str:
    """Return the local chain that intents of the kind are for."""
    return "stellar:devnet" if kind.startswith("stellar") else "eip155:31337"


def make_policy(**changes: object) -> dict[str, object]:
    """Return a policy: 2 of the three approvers for everything on the two local chains, and keys for the asking."""
    stellar: dict[str, object] = {
        "chain": "stellar:devnet", "amount_max": str(2**63 - 1), "fee_max": "100000",
    }  # fmt: skip
    policy: dict[str, object] = {
        "format": "custody-policy-v1",
        "version": 1,
        "approver_set_version": 1,
        "networks": {"stellar:devnet": PASSPHRASE},
        "approvers": [
            {"id": name, "keys": [key_entry(approver_key(name))], "groups": ["treasury"]}
            for name in APPROVERS
        ],
        "address_book": {},
        "cosigned": [],
        "governance": {"approvals": [{"group": "treasury", "threshold": 2}], "cool_down_s": 0},
        "deny": [],
        "allow": [
            make_rule("stellar", **stellar),
            make_rule("evm"),
            *key_rules(),
        ],
    }
    return policy | changes


def policy_bytes(policy: dict[str, object]) -> bytes:
    """Return the policy as it stands in its file."""
    return json.dumps(policy).encode()


def key_view(token: FakeToken, curve: str, key_id: bytes = bytes(range(16)), vault: str = "hot") -> KeyView:
    """Return a key of the token as the signer would show it."""
    public = token.generate(key_id, "x", curve).public_key
    return KeyView(
        key_id=key_id.hex(), org="acme", vault=vault, curve=curve, label="x", public_key=public.hex(),
        address=address_of(curve, public), storage="token", origin="born", state="active",
    )  # fmt: skip


def make_stop(now: int, **changes: Any) -> StopOrder:
    """Return the order to sign nothing more for acme."""
    fields = {
        "request_id": str(uuid4()), "not_before": now - 5, "expires_at": now + 600, "org": "acme", "scope": "all",
        "chain": "", "subject": "", "reason": "a drill",
    }  # fmt: skip
    return StopOrder(**{**fields, **changes})


def make_resume(stop: bytes, now: int, **changes: Any) -> SigningResume:
    """Return the intent to end the stop with this digest."""
    fields = {
        "request_id": str(uuid4()), "initiator": "maker", "policy_version": 1, "not_before": now - 5,
        "expires_at": now + 600, "org": "acme", "stop": stop.hex(), "reason": "the drill is over",
    }  # fmt: skip
    return SigningResume(**{**fields, **changes})


def make_header(key: KeyView, now: int) -> dict[str, Any]:
    return {
        "org": key.org, "vault": key.vault, "key_id": key.key_id, "request_id": str(uuid4()), "initiator": "maker",
        "policy_version": 1, "not_before": now - 5, "expires_at": now + 600, "source": key.address,
    }  # fmt: skip


def make_change(document: bytes, now: int, **changes: Any) -> PolicyChange:
    """Return the intent to put this document in force as version 2."""
    fields = {
        "request_id": str(uuid4()), "initiator": "maker", "policy_version": 1, "not_before": now - 5,
        "expires_at": now + 600, "version": 2, "policy_hash": hashlib.sha256(document).hexdigest(),
    }  # fmt: skip
    return PolicyChange(**{**fields, **changes})


def make_key_create(now: int, **changes: Any) -> KeyCreate:
    fields = {
        "request_id": str(uuid4()), "initiator": "maker", "policy_version": 1, "not_before": now - 5,
        "expires_at": now + 600, "org": "acme", "vault": "cold", "curve": "secp256k1", "label": "one",
        "state": "active",
    }  # fmt: skip
    return KeyCreate(**{**fields, **changes})


def make_key_state(key: KeyView, state: str, now: int, **changes: Any) -> KeyStateChange:
    fields = {
        "request_id": str(uuid4()), "initiator": "maker", "policy_version": 1, "not_before": now - 5,
        "expires_at": now + 600, "org": key.org, "vault": key.vault, "key_id": key.key_id, "state": state,
        "reason": "a drill", "successor": "",
    }  # fmt: skip
    return KeyStateChange(**{**fields, **changes})


def make_payment(key: KeyView, now: int, **changes: Any) -> StellarPayment:
    fields = {
        **make_header(key, now), "chain": "stellar:devnet", "network_id": NETWORK_ID, "destination": CUSTOMER,
        "memo_type": "none", "memo": "", "asset": "native", "amount": 12_345_678, "max_fee": 1000,
    }  # fmt: skip
    return StellarPayment(**{**fields, **changes})


def make_trust(key: KeyView, now: int) -> StellarChangeTrust:
    return StellarChangeTrust(
        **make_header(key, now), chain="stellar:devnet", network_id=NETWORK_ID, max_fee=1000,
        asset=f"LONGCODE1234:{ISSUER}", limit=5 * 10**7,
    )  # fmt: skip


def make_anchor(key: KeyView, now: int) -> StellarAnchor:
    return StellarAnchor(
        **make_header(key, now), chain="stellar:devnet", network_id=NETWORK_ID, max_fee=1000, hash="5a" * 32
    )


def make_transfer(key: KeyView, now: int, **changes: Any) -> EvmTransfer:
    fields = {
        **make_header(key, now), "chain": "eip155:31337", "chain_id": 31337, "destination": RECEIVER,
        "amount": 10**18, "gas_limit": 21_000, "max_fee_per_gas": 30 * 10**9, "max_priority_fee_per_gas": 10**9,
    }  # fmt: skip
    return EvmTransfer(**{**fields, **changes})


def make_erc20(key: KeyView, now: int) -> EvmErc20Transfer:
    return EvmErc20Transfer(
        **asdict(make_transfer(key, now, gas_limit=90_000, amount=123_456)),
        token=TOKEN,
    )


def bind_stellar(intent: StellarIntent, sequence: int) -> StellarBinding:
    return StellarBinding(
        sequence=sequence, max_time=intent.expires_at, min_ledger=0, max_ledger=5_000, fee=intent.max_fee
    )


def bind_evm(nonce: int) -> EvmBinding:
    return EvmBinding(nonce=nonce, max_fee_per_gas=20 * 10**9, max_priority_fee_per_gas=10**9)
