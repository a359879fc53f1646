"""Key files of approvers: Ed25519 and P-256. A private key stays in a file that only its owner can read."""

from __future__ import annotations

import binascii
import getpass
import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

KINDS = ("ed25519", "p256")
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey


class KeyFileFault(Exception):
    """The key file is of no use. `str()` is one sentence for the approver."""


def create_key(kind: str, out: Path) -> PrivateKey:
    """Write a new key of one of `KINDS` into a file that did not exist; raises KeyFileFault."""
    key = Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise KeyFileFault(f"{out} cannot be created: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    return key


def load_key(path: Path) -> PrivateKey:
    """Return the key in a PEM or hex seed file that only its owner can read; raises KeyFileFault."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise KeyFileFault(f"the key file {path} can be read by others: chmod 600 {path}")
            content = file.read(16_384).strip()
    except OSError as error:
        raise KeyFileFault(f"the key file {path} cannot be read: {error.strerror}") from error
    try:
        if content.startswith(b"-----"):
            key = _load_pem(content, path)
        else:
            key = Ed25519PrivateKey.from_private_bytes(binascii.unhexlify(content))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KeyFileFault(f"{path} holds neither a PEM key nor 64 hex characters") from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise KeyFileFault(f"the key in {path} is neither an Ed25519 nor a P-256 key")


def _load_pem(content: bytes, path: Path) -> object:
    if b"ENCRYPTED" in content:
        return load_pem_private_key(content, password=getpass.getpass(f"Passphrase of {path}: ").encode())
    return load_pem_private_key(content, password=None)


def public_hex(key: PrivateKey) -> str:
    """Return the public key as the signer's policy spells it."""
    if isinstance(key, Ed25519PrivateKey):
        return key.public_key().public_bytes_raw().hex()
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint).hex()


def sign(key: PrivateKey, message: bytes) -> bytes:
    """Return the 64 bytes over the message that the signer accepts: of P-256 r‖s with the lower s."""
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(message)
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(SHA256())))
    return r.to_bytes(32, "big") + min(s, _P256_ORDER - s).to_bytes(32, "big")
