"""A software authenticator and the browser around it: assertions in every algorithm, with any field bent.

`Authenticator.sign` gives what an honest pair gives; each argument of `Bend` spoils one thing before it is signed, so that the
signature holds and only the thing itself is wrong.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.points import P256_ORDER
from signer.protocol import canonical
from signer.protocol.approvals import Approval, Assertion, RawSignature, approval_message
from signer.protocol.webauthn import encode_base64url

RP_ID = "custody.example"
ORIGIN = "https://approve.custody.example"
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey | rsa.RSAPrivateKey


@cache
def private_key(algorithm: str, name: str) -> PrivateKey:
    """Return one key per algorithm and name, for as long as the tests run."""
    match algorithm:
        case "ES256" | "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case "EdDSA" | "ed25519":
            return Ed25519PrivateKey.generate()
        case _:
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def spell(key: PrivateKey) -> str:
    """Return the public key as the policy spells it."""
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()
        case Ed25519PrivateKey():
            return key.public_key().public_bytes_raw().hex()
        case rsa.RSAPrivateKey():
            return f"{key.public_key().public_numbers().n:x}"


@dataclass(frozen=True, kw_only=True)
class Bend:
    """What is wrong about an assertion. The defaults are right."""

    type: str = "webauthn.get"
    challenge: Callable[[bytes], bytes] = lambda challenge: challenge
    origin: str | None = None
    client: dict[str, object] = field(default_factory=dict)
    """Fields added to the client data."""
    client_bytes: Callable[[bytes], bytes] = lambda data: data
    """Changes the client data's bytes before they are signed."""
    rp_id: str | None = None
    flags: int | None = None
    counter: int | None = None
    tail: bytes = b""
    """Appended to the authenticator data."""
    credential_id: str | None = None
    signature: Callable[[bytes], bytes] = lambda signature: signature
    """Changes the finished signature."""


HONEST = Bend()


@dataclass(kw_only=True)
class Authenticator:
    """One passkey of one person."""

    name: str
    algorithm: str = "ES256"
    device_bound: bool = True
    rp_id: str = RP_ID
    origins: tuple[str, ...] = (ORIGIN,)
    counter: int = 0
    """The last counter shown; a synced passkey stays at 0."""

    @property
    def key(self) -> PrivateKey:
        return private_key(self.algorithm, self.name)

    @property
    def credential_id(self) -> str:
        return encode_base64url(hashlib.sha256(f"{self.algorithm} {self.name}".encode()).digest()[:16])

    def entry(self, **changes: object) -> dict[str, object]:
        """Return the key as the policy lists it."""
        honest: dict[str, object] = {
            "type": "webauthn",
            "algorithm": self.algorithm,
            "public_key": spell(self.key),
            "credential_id": self.credential_id,
            "rp_id": self.rp_id,
            "origins": list(self.origins),
            "device_bound": self.device_bound,
        }
        return honest | changes

    def sign(self, challenge: bytes, bend: Bend = HONEST) -> Assertion:
        """Return the assertion over this challenge; a device-bound key counts up."""
        if self.device_bound:
            self.counter += 1
        client = {
            "type": bend.type,
            "challenge": encode_base64url(bend.challenge(challenge)),
            "origin": bend.origin or self.origins[0],
            "crossOrigin": False,
            **bend.client,
        }
        client_data = bend.client_bytes(json.dumps(client, separators=(",", ":")).encode())
        flags = UP | UV | (0 if self.device_bound else BE | BS)
        counter = self.counter if bend.counter is None else bend.counter
        data = hashlib.sha256((bend.rp_id or self.rp_id).encode()).digest()
        data += bytes([flags if bend.flags is None else bend.flags]) + counter.to_bytes(4, "big") + bend.tail
        return Assertion(
            credential_id=bend.credential_id or self.credential_id,
            authenticator_data=data,
            client_data_json=client_data,
            signature=bend.signature(sign_with(self.key, data + hashlib.sha256(client_data).digest())),
        )

    def approve(
        self,
        intent: bytes,
        bend: Bend = HONEST,
        *,
        decision: str = "approve",
        version: int = 1,
        approver: str | None = None,
    ) -> Approval:
        """Return the person's decision about canonical bytes."""
        digest = canonical.digest(intent)
        message = approval_message(decision=decision, digest=digest, approver_set_version=version)
        return Approval(
            approver=approver or self.name,
            public_key=spell(self.key),
            decision=decision,
            evidence=self.sign(message, bend),
        )


def sign_with(key: PrivateKey, data: bytes) -> bytes:
    """Return the signature as authenticators write it."""
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(data, ec.ECDSA(SHA256()))
        case Ed25519PrivateKey():
            return key.sign(data)
        case rsa.RSAPrivateKey():
            return key.sign(data, padding.PKCS1v15(), SHA256())


def malleate(der: bytes) -> bytes:
    """Return the other signature (r, n-s) that verifies wherever this one does."""
    r, s = utils.decode_dss_signature(der)
    return utils.encode_dss_signature(r, P256_ORDER - s)


def sign_raw_p256(key: PrivateKey, message: bytes, *, high: bool = False) -> RawSignature:
    """Return r‖s with the lower s, or with the higher one."""
    r, s = utils.decode_dss_signature(sign_with(key, message))
    low = min(s, P256_ORDER - s)
    return RawSignature(
        signature=r.to_bytes(32, "big") + (P256_ORDER - low if high else low).to_bytes(32, "big")
    )
