"""Messages by which keys are made ahead of need, many at once, and by which a signer vouches for keys (SPEC.md section 12)."""

from dataclasses import dataclass

BATCH_MAX = 256
"""Most keys in one request and answer, so that it fits a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKeys:
    """Generate wrapped secp256k1 keys where an automatic rule allows each. Role: requester, operator. Idempotent by `request_id`.

    The same as so many `CreateKey`, each with the names of `item_names`: rules count every single key.
    """

    request_id: str
    """UUID of the caller's choice."""
    org: str
    vault: str
    label: str
    """Free name; one of 1-53 characters fits every count."""
    count: int
    """1 .. BATCH_MAX. Another count under the same `request_id` is another request, and refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestKeys:
    """Ask the signer to vouch for keys that it has. Role: requester or operator. Changes nothing.

    Except that an org that has a key and no key for attestations gets one.
    """

    org: str
    key_ids: tuple[str, ...]
    """At most BATCH_MAX; none to learn the attester only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestedKey:
    """A key of the org, and the signer's word for it."""

    key_id: str
    vault: str
    public_key: bytes
    """65 bytes 04‖X‖Y."""
    attestation: bytes
    """Ed25519, 64 bytes, by the attester over `attestation.attestation_message`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBatch:
    """Answers CreateKeys and AttestKeys: the keys in the order asked for."""

    org: str
    attester: bytes
    """Public half of the org's key in the vault `attestations`, 32 bytes."""
    keys: tuple[AttestedKey, ...]


def item_names(request: CreateKeys, number: int) -> tuple[str, str]:
    """Return request id and label of the key with this number, from 1. The count is in every label, so that it cannot change."""
    return f"{request.request_id}.{number}", f"{request.label}.{number}of{request.count}"
