"""A signer without a token: software keys, an HMAC and an anchor in memory, and a death at any call that a test names."""

import hashlib
import hmac
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.refusal import HsmFault

START = 1_800_000_000


class Crash(BaseException):
    """The process died here."""


@dataclass
class FakeToken:
    """What outlives the process, and the switches of the test. Plays keys, MAC, anchor store and clock."""

    anchors: list[bytes] = field(default_factory=list)
    seeds: dict[bytes, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    crash_at: int = 0
    """Number of the call to die at, counted from 1; 0 for never."""
    failing: str = ""
    """Name of the calls that raise HsmFault."""
    now: int = START

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self.crash_at:
            raise Crash(name)
        if name == self.failing:
            raise HsmFault(name)

    def clock(self) -> int:
        return self.now

    def mac(self, message: bytes) -> bytes:
        self._called("mac")
        return hmac.digest(b"journal key", message, "sha256")

    def read(self) -> list[bytes]:
        return list(self.anchors)

    def replace(self, value: bytes) -> None:
        self._called("anchor")
        self.anchors.append(value)
        self._called("destroy")
        self.anchors = [value]

    def generate(self, key_id: bytes, label: str, curve: str) -> bytes:
        self._called("generate")
        self.seeds.setdefault(key_id, hashlib.sha256(key_id).digest())
        if curve == "ed25519":
            return self._ed25519(key_id).public_key().public_bytes_raw()
        public = self._secp256k1(key_id).public_key()
        return public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes:
        self._called("sign")
        if curve == "ed25519":
            return self._ed25519(key_id).sign(message)
        der = self._secp256k1(key_id).sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))
        r, s = decode_dss_signature(der)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def _ed25519(self, key_id: bytes) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seeds[key_id])

    def _secp256k1(self, key_id: bytes) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(int.from_bytes(self.seeds[key_id], "big"), ec.SECP256K1())
