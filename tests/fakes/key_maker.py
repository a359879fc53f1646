"""Keys without an HSM, for tests of what happens around them: the same request makes the same key."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import coincurve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from custody.chains.address import account_of_key, curve_of
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeKey:
    """A key that was made."""

    key_id: str
    public_key: str
    account: str


class FakeKeyMaker:
    """Stands where the signer stands when a vault needs a key."""

    def __init__(self) -> None:
        self.asked = 0

    async def create_key(
        self, *, request_id: UUID, tenant: TenantId, purpose: str, chain: ChainId
    ) -> FakeKey:
        """A key that follows from the request id."""
        self.asked += 1
        public = public_key(request_id, chain)
        return FakeKey(key_id=request_id.hex, public_key=public.hex(), account=account_of_key(chain, public))

    @staticmethod
    def account_of(request_id: UUID, chain: ChainId) -> str:
        """The account that such a key controls."""
        return account_of_key(chain, public_key(request_id, chain))


def public_key(request_id: UUID, chain: ChainId) -> bytes:
    """The public half."""
    seed = request_id.bytes + request_id.bytes
    if curve_of(chain) == "ed25519":
        return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return coincurve.PrivateKey(seed).public_key.format(compressed=False)
