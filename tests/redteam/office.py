"""The approvers under attack, with keys of every kind, and what is asked in their name."""

from __future__ import annotations

import time
from dataclasses import replace

from signer.protocol import canonical
from signer.protocol.approvals import Approval, RawSignature, approval_message
from signer.protocol.messages import KeyView, Sign
from tests.fakes.authenticator import Authenticator, private_key, sign_raw_p256, spell
from tests.fakes.signer_people import approver_key, bind_evm, key_entry, make_transfer, public_hex

ALICE = Authenticator(name="alice")
PHONE = Authenticator(name="alice-phone", algorithm="RS256", device_bound=False)
BOB = Authenticator(name="bob", algorithm="EdDSA", device_bound=False)


def office() -> list[dict[str, object]]:
    """Alice has two passkeys and a raw key, Bob a synced passkey and a P-256 key, Carol a raw key; Eve is of another group."""
    held = {
        "alice": [ALICE.entry(), PHONE.entry(), key_entry(approver_key("alice"))],
        "bob": [BOB.entry(), {"type": "p256", "public_key": spell(private_key("p256", "bob"))}],
        "carol": [key_entry(approver_key("carol"))],
        "eve": [key_entry(approver_key("eve"))],
    }
    return [
        {"id": name, "keys": keys, "groups": ["support" if name == "eve" else "treasury"]}
        for name, keys in held.items()
    ]


def now() -> int:
    return int(time.time())


def transfer(key: KeyView, **changes: object) -> bytes:
    return canonical.encode(make_transfer(key, now(), **changes))


def ask(data: bytes, *approvals: Approval, nonce: int = 0) -> Sign:
    return Sign(intent=data, approvals=approvals, binding=bind_evm(nonce))


def message_of(data: bytes) -> bytes:
    return approval_message(decision="approve", digest=canonical.digest(data), approver_set_version=1)


def by_hand(data: bytes, *, high: bool = False) -> Approval:
    """Bob's P-256 key, without a passkey around it."""
    mine = private_key("p256", "bob")
    evidence = sign_raw_p256(mine, message_of(data), high=high)
    return Approval(approver="bob", public_key=spell(mine), decision="approve", evidence=evidence)


def raw(name: str, message: bytes) -> Approval:
    """What a person's raw key signed, passed off as an approval."""
    signer = approver_key(name)
    evidence = RawSignature(signature=signer.sign(message))
    return Approval(approver=name, public_key=public_hex(signer), decision="approve", evidence=evidence)


def with_signature(approval: Approval, signature: bytes) -> Approval:
    return replace(approval, evidence=replace(approval.evidence, signature=signature))
