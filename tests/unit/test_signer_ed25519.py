"""Ed25519 verification: what an independent library signs holds, and nothing that differs from it by a bit or a length."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from signer.ed25519 import is_ed25519

ORDER = 2**252 + 27742317777372353535851937790883648493


@settings(max_examples=60, deadline=None)
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=80), bit=st.integers(0, 511))
def test_a_signature_holds_and_no_other_bit_pattern_does(seed: bytes, message: bytes, bit: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert is_ed25519(public, signature, message)
    assert not is_ed25519(public, signature, message + b"\0")
    bent = bytearray(signature)
    bent[bit // 8] ^= 1 << bit % 8
    assert not is_ed25519(public, bytes(bent), message)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_key_of_another_length_verifies_nothing(size: int) -> None:
    assert not is_ed25519(bytes(size), bytes(64), b"")


@pytest.mark.parametrize("size", [0, 63, 65, 128])
def test_a_signature_of_another_length_verifies_nothing(size: int) -> None:
    key = Ed25519PrivateKey.generate()
    signature = key.sign(b"m")
    stretched = (signature * 2)[:size]
    assert not is_ed25519(key.public_key().public_bytes_raw(), stretched, b"m")


def test_the_second_spelling_of_a_signature_is_refused() -> None:
    key = Ed25519PrivateKey.generate()
    signature = key.sign(b"m")
    s = int.from_bytes(signature[32:], "little") + ORDER
    assert not is_ed25519(
        key.public_key().public_bytes_raw(), signature[:32] + s.to_bytes(32, "little"), b"m"
    )


def test_a_key_of_small_order_verifies_nothing() -> None:
    identity = (1).to_bytes(32, "little")
    assert not is_ed25519(identity, identity + bytes(32), b"m")
