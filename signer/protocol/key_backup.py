"""The messages by which keys are taken to another token, and taken into use there (SPEC.md section 10)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmitKey:
    """Take a key into use that this signer did not make. Role: operator. Idempotent by `request_id`.

    A ceremony imported it into the token, or it comes wrapped from a backup.
    """

    request_id: str
    key_id: str
    """Its CKA_ID in hex, 16 bytes."""
    org: str
    vault: str
    curve: str
    label: str
    public_key: bytes
    """What it is said to be; the key must sign for it."""
    blob: bytes
    """Its wrapped bytes, or none for a key in the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportKeys:
    """Ask for the wrapped bytes of an organisation's keys, for a backup. Role: operator."""

    org: str
    start: int
    """How many of the organisation's keys to pass over, oldest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKeyView:
    """A wrapped key as a backup keeps it. Worthless without the wrapping key."""

    key_id: str
    vault: str
    label: str
    public_key: bytes
    blob: bytes
    wrapping_key: bytes
    """Fingerprint of the wrapping key, 32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKeyList:
    """Answers ExportKeys: the wrapped ones among the keys that ListKeys shows for the same `start`."""

    keys: tuple[WrappedKeyView, ...]
    passed: int
    """How many keys were looked at; the next `start` is that much further."""
    total: int
