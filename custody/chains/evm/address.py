"""EVM addresses and their checksum. Pure. Source: EIP-55; the yellow paper, appendix F."""

from __future__ import annotations

import re

from coincurve import PublicKey
from sha3 import keccak_256

from custody.chains.errors import InvalidAddress

_HEX = re.compile(r"0x[0-9a-fA-F]{40}")
_ONE_OF_EACH = int.from_bytes(b"\x01" * 40, "big")
"""The lowest bit of each of forty characters."""
ZERO = "0x" + "0" * 40
"""Where minted tokens come from and burned ones go; never a destination of ours."""


def parse_address(text: str) -> str:
    """The address in its EIP-55 spelling.

    All lower-case or all upper-case digits carry no checksum and are accepted; a mixed spelling must have the right one.
    Raises InvalidAddress, for the zero address too.
    """
    if not _HEX.fullmatch(text):
        raise InvalidAddress(address=text[:100])
    digits = text[2:]
    correct = checksum(text)
    if digits not in (digits.lower(), digits.upper()) and text != correct:
        raise InvalidAddress(address=text, expected="the EIP-55 checksum")
    if correct == ZERO:
        raise InvalidAddress(address=text, expected="an address other than zero")
    return correct


def checksum(address: str) -> str:
    """The EIP-55 spelling of 20 bytes in hex with 0x. The caller vouches for the form. Source: EIP-55.

    All forty digits at once: a letter (bit 6 of its code) becomes a capital (bit 5 is taken away) where the digit of the hash at
    its place is 8 or more, that is `8` and `9` (bit 3) and letters (bit 6). Every address of every block goes through here.
    """
    digits = address[2:].lower().encode("ascii")
    marks = int.from_bytes(keccak256(digits).hex()[:40].encode("ascii"), "big")
    plain = int.from_bytes(digits, "big")
    capitals = (marks >> 3 | marks >> 6) & plain >> 6 & _ONE_OF_EACH
    return "0x" + (plain - (capitals << 5)).to_bytes(40, "big").decode("ascii")


def account_of_key(public_key: bytes) -> str:
    """The address of a secp256k1 public key: SEC 1 compressed (33), uncompressed (65), or the bare point (64 bytes).

    Raises InvalidAddress when the bytes are no point of the curve.
    """
    encoded = b"\x04" + public_key if len(public_key) == 64 else public_key
    try:
        point = PublicKey(encoded).format(compressed=False)
    except ValueError as error:
        raise InvalidAddress(public_key_bytes=len(public_key)) from error
    return checksum("0x" + keccak256(point[1:])[-20:].hex())


def keccak256(data: bytes) -> bytes:
    """Keccak-256, Ethereum's hash (not SHA3-256)."""
    digest: bytes = keccak_256(data).digest()
    return digest
