"""What signer.decide and signer.record need of a token: the software token of the tests and a real SoftHSM both keep it."""

import hashlib
from dataclasses import dataclass, replace
from typing import Protocol

import coincurve
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from signer.hsm.keys import KeyStore
from signer.hsm.model import TokenKey, WrappedKey
from signer.hsm.objects import AnchorObject, MacKey
from signer.refusal import KeyFault
from tests.fakes.signer_hsm import FakeToken
from tests.softhsm import pool_on

MESSAGE = hashlib.sha256(b"message").digest()


class Token(Protocol):
    """Keys, MAC and anchor store in one."""

    def generate(self, key_id: bytes, label: str, curve: str) -> TokenKey: ...
    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes: ...
    def inspect(self, key_id: bytes, curve: str) -> TokenKey: ...
    def generate_wrapped(self) -> WrappedKey: ...
    def sign_wrapped(self, key: WrappedKey, message: bytes) -> bytes: ...
    def check_wrapping_key(self, fingerprints: frozenset[bytes]) -> None: ...
    def mac(self, message: bytes) -> bytes: ...
    def read(self, place: int) -> str: ...
    def write(self, place: int, text: str) -> None: ...


@dataclass
class RealToken:
    """The signer's own HSM classes over one token."""

    keys: KeyStore
    mac_key: MacKey
    anchor: AnchorObject

    def generate(self, key_id: bytes, label: str, curve: str) -> TokenKey:
        return self.keys.generate(key_id, label, curve)

    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes:
        return self.keys.sign(key_id, curve, message)

    def inspect(self, key_id: bytes, curve: str) -> TokenKey:
        return self.keys.inspect(key_id, curve)

    def generate_wrapped(self) -> WrappedKey:
        return self.keys.generate_wrapped()

    def sign_wrapped(self, key: WrappedKey, message: bytes) -> bytes:
        return self.keys.sign_wrapped(key, message)

    def check_wrapping_key(self, fingerprints: frozenset[bytes]) -> None:
        self.keys.check_wrapping_key(fingerprints)

    def mac(self, message: bytes) -> bytes:
        return self.mac_key(message)

    def read(self, place: int) -> str:
        return self.anchor.read(place)

    def write(self, place: int, text: str) -> None:
        self.anchor.write(place, text)


@pytest.fixture(scope="module", params=["software", "softhsm"])
def token(request: pytest.FixtureRequest) -> Token:
    if request.param == "software":
        return FakeToken()
    pool = pool_on("contract")
    return RealToken(keys=KeyStore(pool), mac_key=MacKey(pool), anchor=AnchorObject(pool))


def test_an_ed25519_key_signs_32_bytes(token: Token) -> None:
    public = token.generate(b"e" * 16, "e", "ed25519").public_key
    assert len(public) == 32
    signature = token.sign(b"e" * 16, "ed25519", MESSAGE)
    Ed25519PublicKey.from_public_bytes(public).verify(signature, MESSAGE)
    assert token.sign(b"e" * 16, "ed25519", MESSAGE) == signature


def test_a_secp256k1_key_signs_with_any_s_and_another_nonce_each_time(token: Token) -> None:
    public = token.generate(b"s" * 16, "s", "secp256k1").public_key
    assert (len(public), public[0]) == (65, 4)
    signatures = {token.sign(b"s" * 16, "secp256k1", MESSAGE) for _ in range(20)}
    assert len(signatures) == 20
    half = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
    assert {int.from_bytes(signature[32:], "big") > half for signature in signatures} == {True, False}
    for signature in signatures:
        found = [
            coincurve.PublicKey.from_signature_and_message(
                signature + bytes([v]), MESSAGE, hasher=None
            ).format(False)
            for v in (0, 1)
        ]
        assert public in found


def test_a_repeated_generation_finds_the_same_key(token: Token) -> None:
    for curve in ("ed25519", "secp256k1"):
        key_id = curve.encode().ljust(16, b"-")
        assert token.generate(key_id, "again", curve) == token.generate(key_id, "again", curve)


def test_what_the_token_says_of_a_key_is_told(token: Token) -> None:
    for curve, mechanism in (("ed25519", "EC_EDWARDS_KEY_PAIR_GEN"), ("secp256k1", "EC_KEY_PAIR_GEN")):
        key_id = curve.encode().ljust(16, b"+")
        made = token.generate(key_id, "told", curve)
        assert (made.born_inside, made.mechanism) == (True, mechanism)
        assert token.inspect(key_id, curve) == made


def test_a_key_that_does_not_exist_is_a_fault(token: Token) -> None:
    with pytest.raises(KeyFault):
        token.inspect(b"nobody----------", "ed25519")


def test_a_wrapped_key_signs_from_its_bytes(token: Token) -> None:
    key, other = token.generate_wrapped(), token.generate_wrapped()
    assert (len(key.public_key), len(key.blob), len(key.wrapping_key)) == (65, 72, 32)
    assert key.public_key != other.public_key
    assert key.wrapping_key == other.wrapping_key
    for one in (key, other, key):
        signature = token.sign_wrapped(one, MESSAGE)
        found = [
            coincurve.PublicKey.from_signature_and_message(
                signature + bytes([v]), MESSAGE, hasher=None
            ).format(False)
            for v in (0, 1)
        ]
        assert one.public_key in found
    token.check_wrapping_key(frozenset({key.wrapping_key}))
    with pytest.raises(KeyFault):
        token.check_wrapping_key(frozenset({key.wrapping_key, bytes(32)}))


def test_a_wrapped_key_with_one_changed_byte_does_not_sign(token: Token) -> None:
    key = token.generate_wrapped()
    for place in range(len(key.blob)):
        blob = bytearray(key.blob)
        blob[place] ^= 1
        with pytest.raises(KeyFault):
            token.sign_wrapped(replace(key, blob=bytes(blob)), MESSAGE)
    assert token.sign_wrapped(key, MESSAGE)


def test_a_wrapped_key_does_not_sign_for_another(token: Token) -> None:
    key, other = token.generate_wrapped(), token.generate_wrapped()
    with pytest.raises(KeyFault):
        token.sign_wrapped(replace(key, blob=other.blob), MESSAGE)


def test_the_mac_is_a_function_of_the_message(token: Token) -> None:
    assert len(token.mac(b"one")) == 32
    assert token.mac(b"one") == token.mac(b"one")
    assert token.mac(b"one") != token.mac(b"two")


def test_the_anchor_has_places_that_are_replaced_whole(token: Token) -> None:
    assert [token.read(place) for place in range(3)] == ["", "", ""]
    for text in ("first", "a second and longer text " * 8, "third"):
        token.write(1, text)
        assert [token.read(place) for place in range(3)] == ["", text, ""]
    token.write(2, "owner")
    assert [token.read(place) for place in range(3)] == ["", "third", "owner"]
