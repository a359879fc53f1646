"""What deposits need from the signer: keys that are born in the HSM, and its word for them. `custody.signing.client.SignerClient`
gives both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId


class NewKey(Protocol):
    """A key that the signer made."""

    @property
    def key_id(self) -> str:
        """Its name in the HSM."""
        ...

    @property
    def public_key(self) -> str:
        """Hexadecimal."""
        ...

    @property
    def account(self) -> str:
        """The account that it controls, by the signer's account."""
        ...


class Vouched(Protocol):
    """A secp256k1 key, with the signer's word for it, which whoever gives it has checked."""

    @property
    def key_id(self) -> str:
        """Its name in the HSM."""
        ...

    @property
    def public_key(self) -> bytes:
        """65 bytes."""
        ...

    @property
    def attestation(self) -> bytes:
        """64 bytes; see `custody.signing.attestations`."""
        ...


class KeyVoucher(Protocol):
    """Says which keys are the signer's own."""

    async def attester(self, tenant: TenantId) -> bytes:
        """Public half of the key that vouches for the tenant's keys, as the signer said last."""
        ...

    async def vouch_for(self, tenant: TenantId, purpose: str, key_ids: Sequence[str]) -> Sequence[Vouched]:
        """The signer's word, given now. Raises SignerRefused(`unknown_key`)."""
        ...


class BatchMaker(KeyVoucher, Protocol):
    """Makes keys ahead of need; the same request makes the same keys."""

    async def create_keys(
        self, *, request_id: UUID, tenant: TenantId, purpose: str, count: int
    ) -> Sequence[Vouched]:
        """So many keys for vaults of this purpose."""
        ...


class KeyMaker(KeyVoucher, Protocol):
    """Makes keys; the same request makes the same key."""

    async def create_key(self, *, request_id: UUID, tenant: TenantId, purpose: str, chain: ChainId) -> NewKey:
        """A key for vaults of this purpose."""
        ...
