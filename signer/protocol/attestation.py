"""What a signer signs to say that a key is its own (SPEC.md section 12).

Standard library only, so that whoever is shown an address can check whose it is without asking the signer.
"""

import hashlib

from signer.protocol.checkpoint import VAULT as CHECKPOINTS

VAULT = "attestations"
"""Vault of the keys that sign attestations, and nothing else."""
STATEMENT_VAULTS = frozenset({CHECKPOINTS, VAULT})
"""Vaults whose keys sign statements of the signer's own: no intent, whatever the policy says, and nothing of each other's."""

_TAG = b"custody-key-attestation-v1"


def attestation_message(org: str, vault: str, key_id: bytes, public_key: bytes) -> bytes:
    """Return the 32 bytes that say: this key, by id (16 bytes) and public half (65 bytes), is one of this org and vault."""
    fields = b"\x00".join((_TAG, org.encode("ascii"), vault.encode("ascii"), b""))
    return hashlib.sha256(fields + key_id + public_key).digest()
