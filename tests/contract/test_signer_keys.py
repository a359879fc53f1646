"""What signer.decide and signer.record need of a token: the software token of the tests and a real SoftHSM both keep it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import coincurve
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from signer.hsm.keys import KeyStore
from signer.hsm.module import find_token
from signer.hsm.objects import AnchorObject, MacKey
from signer.hsm.sessions import SessionPool
from tests.fakes.signer_hsm import FakeToken
from tests.integration.signer_harness import MODULE, PIN, make_token

MESSAGE = hashlib.sha256(b"message").digest()


class Token(Protocol):
    """Keys, MAC and anchor store in one."""

    def generate(self, key_id: bytes, label: str, curve: str) -> bytes: ...
    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes: ...
    def mac(self, message: bytes) -> bytes: ...
    def read(self, place: int) -> str: ...
    def write(self, place: int, text: str) -> None: ...


@dataclass
class RealToken:
    """The signer's own HSM classes over one token."""

    keys: KeyStore
    mac_key: MacKey
    anchor: AnchorObject

    def generate(self, key_id: bytes, label: str, curve: str) -> bytes:
        return self.keys.generate(key_id, label, curve)

    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes:
        return self.keys.sign(key_id, curve, message)

    def mac(self, message: bytes) -> bytes:
        return self.mac_key(message)

    def read(self, place: int) -> str:
        return self.anchor.read(place)

    def write(self, place: int, text: str) -> None:
        self.anchor.write(place, text)


@pytest.fixture(scope="module", params=["software", "softhsm"])
def token(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Token:
    if request.param == "software":
        return FakeToken()
    if not MODULE.exists():
        pytest.skip("needs softhsm2")
    configuration: Path = make_token(tmp_path_factory.mktemp("token"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(configuration))
        pool = SessionPool(find_token(MODULE, "", "custody"), PIN, 2)
    return RealToken(keys=KeyStore(pool), mac_key=MacKey(pool), anchor=AnchorObject(pool))


def test_an_ed25519_key_signs_32_bytes(token: Token) -> None:
    public = token.generate(b"e" * 16, "e", "ed25519")
    assert len(public) == 32
    signature = token.sign(b"e" * 16, "ed25519", MESSAGE)
    Ed25519PublicKey.from_public_bytes(public).verify(signature, MESSAGE)
    assert token.sign(b"e" * 16, "ed25519", MESSAGE) == signature


def test_a_secp256k1_key_signs_with_any_s_and_another_nonce_each_time(token: Token) -> None:
    public = token.generate(b"s" * 16, "s", "secp256k1")
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
