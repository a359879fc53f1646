"""What is known of keys, without a token at hand."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenKey:
    """What the token says of a key that lives in it."""

    public_key: bytes
    """32 bytes for ed25519, 65 bytes for secp256k1."""
    born_inside: bool
    """False for a key that a ceremony imported."""
    mechanism: str
    """CKA_KEY_GEN_MECHANISM by name; "" for a key that was not made in the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKey:
    """A secp256k1 key as it is kept outside the token. Useless without the wrapping key."""

    public_key: bytes
    """65 bytes."""
    blob: bytes
    """The private key under AES-KWP, 72 bytes. Source: RFC 5649."""
    wrapping_key: bytes
    """Fingerprint of the key that wrapped it, 32 bytes."""
