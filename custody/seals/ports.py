"""Who signs checkpoints, and who tells what a chain holds."""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

from custody.chains.stellar.lookup import AbsentTransaction, StellarTransaction
from custody.kernel.ids import TenantId
from custody.signing.model import CheckpointSignature


class CheckpointSigner(Protocol):
    """The signer, as far as checkpoints go."""

    async def checkpoint_key(self, *, request_id: UUID, tenant: TenantId) -> str:
        """The id of a checkpoint key of the tenant, created at the first call with this `request_id`. The tenant has a vault."""
        ...

    async def find_checkpoint_key(self, tenant: TenantId, key_id: str) -> bytes | None:
        """The public key behind the id, when it is a checkpoint key of the tenant."""
        ...

    async def sign_checkpoint(
        self, *, tenant: TenantId, key_id: str, sequence: int, seal_hash: bytes
    ) -> CheckpointSignature:
        """Sign a seal. Idempotent for the newest."""
        ...


class AnchorWitness(Protocol):
    """A Stellar chain, as far as anchors go. `chains.stellar.rpc.StellarRpc` is one."""

    async def find_transaction(self, tx_hash: str) -> StellarTransaction | AbsentTransaction:
        """What the chain says about a transaction. Raises Unavailable."""
        ...
