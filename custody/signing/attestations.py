"""Whether the signer has vouched for a key: judged by its signature alone, whatever a row of the database says."""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from custody.kernel.ids import TenantId
from custody.signing.intent_fields import org_name
from signer.protocol.attestation import attestation_message


def is_vouched_for(
    tenant: TenantId, purpose: str, *, key_id: str, public_key: bytes, attestation: bytes, attester: bytes
) -> bool:
    """Whether this attester (Ed25519, 32 bytes) signed that the key is the tenant's, for vaults of this purpose.

    Source: signer/protocol/SPEC.md section 12.
    """
    message = attestation_message(org_name(tenant), purpose, bytes.fromhex(key_id), public_key)
    try:
        Ed25519PublicKey.from_public_bytes(attester).verify(attestation, message)
    except (InvalidSignature, ValueError):
        return False
    return True
