"""The two people of the signer's bench: one approves with a passkey (WebAuthn, ES256), one with an Ed25519 key."""

from __future__ import annotations

import hashlib
import itertools
import json

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.protocol.approvals import Approval, Assertion, Evidence, RawSignature, approval_message
from signer.protocol.webauthn import encode_base64url

RP_ID, ORIGIN = "bench.example", "https://approve.bench.example"
GROUP = "treasury"
_PRESENT_AND_VERIFIED = b"\x05"
_PASSKEY = derive_private_key(0xA11CE, SECP256R1())
_PASSKEY_PUBLIC = _PASSKEY.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()
_CREDENTIAL = encode_base64url(b"alice's passkey.")
_SHOWN = itertools.count(1)
"""The passkey is bound to its device and counts what it signs."""
_KEY = Ed25519PrivateKey.from_private_bytes(b"bob".ljust(32, b"."))
_KEY_PUBLIC = _KEY.public_key().public_bytes_raw().hex()


def approver_entries() -> list[dict[str, object]]:
    """Return both people as the policy lists them."""
    passkey = {
        "type": "webauthn",
        "algorithm": "ES256",
        "public_key": _PASSKEY_PUBLIC,
        "credential_id": _CREDENTIAL,
        "rp_id": RP_ID,
        "origins": [ORIGIN],
        "device_bound": True,
    }
    key = {"type": "ed25519", "public_key": _KEY_PUBLIC}
    return [
        {"id": name, "keys": [entry], "groups": [GROUP]} for name, entry in (("alice", passkey), ("bob", key))
    ]


def approvals_of(digest: bytes) -> tuple[Approval, ...]:
    """Return what both people say about the intent of this digest: yes."""
    message = approval_message(decision="approve", digest=digest, approver_set_version=1)
    return (
        _approval("alice", _PASSKEY_PUBLIC, _assert(message)),
        _approval("bob", _KEY_PUBLIC, RawSignature(signature=_KEY.sign(message))),
    )


def _approval(name: str, public_key: str, evidence: Evidence) -> Approval:
    return Approval(approver=name, public_key=public_key, decision="approve", evidence=evidence)


def _assert(challenge: bytes) -> Assertion:
    client = {
        "type": "webauthn.get",
        "challenge": encode_base64url(challenge),
        "origin": ORIGIN,
        "crossOrigin": False,
    }
    client_data = json.dumps(client, separators=(",", ":")).encode()
    data = hashlib.sha256(RP_ID.encode()).digest() + _PRESENT_AND_VERIFIED + next(_SHOWN).to_bytes(4, "big")
    return Assertion(
        credential_id=_CREDENTIAL,
        authenticator_data=data,
        client_data_json=client_data,
        signature=_PASSKEY.sign(data + hashlib.sha256(client_data).digest(), ECDSA(SHA256())),
    )
