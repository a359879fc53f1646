"""What deposits need from the signer: keys that are born in the HSM. `custody.signing.client.SignerClient` is one."""

from __future__ import annotations

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


class KeyMaker(Protocol):
    """Makes keys; the same request makes the same key."""

    async def create_key(self, *, request_id: UUID, tenant: TenantId, purpose: str, chain: ChainId) -> NewKey:
        """A key for vaults of this purpose."""
        ...
