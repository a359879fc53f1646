"""A signer without a token: software keys, an HMAC and an anchor in memory, and a death at any call that a test names."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from signer.anchor import OWNER_PLACE
from signer.hsm.model import TokenKey, WrappedKey
from signer.refusal import HsmFault, KeyFault

WRAPPING = b"wrapping key"
START = 1_800_000_000


class Crash(BaseException):
    """The process died here."""


@dataclass
class FakeToken:
    """What outlives the process, and the switches of the test. Plays keys, MAC, anchor store and clock."""

    texts: dict[int, str] = field(default_factory=dict)
    """The anchor's places."""
    seeds: dict[bytes, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    crash_at: int = 0
    """Number of the call to die at, counted from 1; 0 for never."""
    failing: str = ""
    """Name of the calls that raise HsmFault."""
    broken_disk: str = ""
    """Name of the disk's calls that raise OSError."""
    now: int = START
    wrapped: int = 0
    """Wrapped keys made."""
    between: Callable[[str], None] | None = None
    """What happens at each call of the token, by name: another process at work."""

    def called(self, name: str) -> None:
        """Count a call, and die or fail in it if that is the test's wish."""
        self.calls.append(name)
        if self.between is not None:
            self.between(name)
        if len(self.calls) == self.crash_at:
            raise Crash(name)
        if name == self.failing:
            raise HsmFault(name)

    def clock(self) -> int:
        return self.now

    def mac(self, message: bytes) -> bytes:
        self.called("mac")
        return hmac.digest(b"journal key", message, "sha256")

    def read(self, place: int) -> str:
        if self.between is not None:
            self.between("read")
        return self.texts.get(place, "")

    def write(self, place: int, text: str) -> None:
        name = "owner" if place == OWNER_PLACE else "anchor"
        self.called(name)
        self.texts.pop(place, None)
        self.called(f"{name} torn")
        self.texts[place] = text

    def generate(self, key_id: bytes, label: str, curve: str) -> TokenKey:
        self.called("generate")
        self.seeds.setdefault(key_id, hashlib.sha256(key_id).digest())
        return self.inspect(key_id, curve)

    def inspect(self, key_id: bytes, curve: str) -> TokenKey:
        if key_id not in self.seeds:
            raise KeyFault("the key is not in the token")
        if curve == "ed25519":
            public = self._ed25519(key_id).public_key().public_bytes_raw()
            return TokenKey(public_key=public, born_inside=True, mechanism="EC_EDWARDS_KEY_PAIR_GEN")
        return TokenKey(public_key=self._public(key_id), born_inside=True, mechanism="EC_KEY_PAIR_GEN")

    def generate_wrapped(self) -> WrappedKey:
        self.called("generate")
        self.wrapped += 1
        seed = hashlib.sha256(b"wrapped" + self.wrapped.to_bytes(4, "big")).digest()
        self.seeds[seed] = seed
        return WrappedKey(
            public_key=self._public(seed), blob=_seal(seed), wrapping_key=hashlib.sha256(WRAPPING).digest()
        )

    def sign_wrapped(self, key: WrappedKey, message: bytes) -> bytes:
        seed = key.blob[:32]
        if _seal(seed) != key.blob:
            raise KeyFault("a wrapped key does not open")
        self.seeds[seed] = seed
        if self._public(seed) != key.public_key:
            raise KeyFault("a signature is not by the expected key")
        return self.sign(seed, "secp256k1", message)

    def check_wrapping_key(self, fingerprints: frozenset[bytes]) -> None:
        if fingerprints != {hashlib.sha256(WRAPPING).digest()}:
            raise KeyFault("keys were wrapped by another wrapping key")

    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes:
        self.called("sign")
        if curve == "ed25519":
            return self._ed25519(key_id).sign(message)
        der = self._secp256k1(key_id).sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))
        r, s = decode_dss_signature(der)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def _public(self, key_id: bytes) -> bytes:
        return (
            self._secp256k1(key_id).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        )

    def _ed25519(self, key_id: bytes) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.seeds[key_id])

    def _secp256k1(self, key_id: bytes) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(int.from_bytes(self.seeds[key_id], "big"), ec.SECP256K1())


def _seal(seed: bytes) -> bytes:
    """A blob of 72 bytes that shows every change; no secret is kept here."""
    return seed + hmac.digest(WRAPPING, seed, "sha256") + bytes(8)
