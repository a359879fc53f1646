"""Ed25519 signatures of people and of our own keys, verified by libsodium: it lets other threads run meanwhile.

Stricter than RFC 8032 asks: no second spelling of a signature, no point of small order. Source: RFC 8032 s.5.1.7.
"""

from nacl.bindings import crypto_sign_BYTES, crypto_sign_open, crypto_sign_PUBLICKEYBYTES
from nacl.exceptions import BadSignatureError


def is_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether the signature over the message is by the key."""
    if len(public_key) != crypto_sign_PUBLICKEYBYTES or len(signature) != crypto_sign_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True
