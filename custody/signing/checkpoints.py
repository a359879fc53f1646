"""What a checkpoint key signs, for those who check signatures; asking for one is `client`'s."""

from __future__ import annotations

from custody.kernel.ids import TenantId
from custody.signing.intent_fields import org_name
from signer.protocol.checkpoint import checkpoint_message


def message_of(tenant: TenantId, sequence: int, seal_hash: bytes) -> bytes:
    """The 32 bytes under a checkpoint of this tenant."""
    return checkpoint_message(org_name(tenant), sequence, seal_hash)
