"""Keys without an HSM, for tests of what happens around them: the same request makes the same key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import coincurve
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from custody.chains.address import account_of_key, curve_of
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, derived_uuid
from custody.signing.errors import SignerRefused, SignerUnreachable
from custody.signing.intent_fields import org_name
from custody.signing.model import VouchedKey
from signer.protocol.attestation import attestation_message

_EVM = ChainId("eip155:1")


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeKey:
    """A key that was made."""

    key_id: str
    public_key: str
    account: str


class FakeKeyMaker:
    """Stands where the signer stands when a vault needs a key, or a key its word (tests/contract/test_key_batches.py)."""

    def __init__(self) -> None:
        self.asked = 0
        self.held: dict[TenantId, dict[str, tuple[str, bytes]]] = {}
        """By tenant and key id: purpose and public half of what batches made."""
        self.attesters: dict[TenantId, Ed25519PrivateKey] = {}
        self.reachable = True
        self.voided: list[bytes] = []

    async def void(self, intent: bytes) -> None:
        """It signs nothing, so it will never sign this."""
        if not self.reachable:
            raise SignerUnreachable
        self.voided.append(intent)

    async def create_keys(
        self, *, request_id: UUID, tenant: TenantId, purpose: str, count: int
    ) -> list[VouchedKey]:
        """Keys that follow from the request id."""
        self.asked += 1
        held = self.held.setdefault(tenant, {})
        for number in range(1, count + 1):
            born = derived_uuid("key of a batch", request_id, number)
            held.setdefault(born.hex, (purpose, public_key(born, _EVM)))
        ids = [derived_uuid("key of a batch", request_id, number).hex for number in range(1, count + 1)]
        return await self.vouch_for(tenant, purpose, ids)

    async def vouch_for(self, tenant: TenantId, purpose: str, key_ids: Sequence[str]) -> list[VouchedKey]:
        """Its word for keys that its batches made."""
        held = self.held.get(tenant, {})
        found = [held.get(key_id, ("", b"")) for key_id in key_ids]
        if not held or any(kept != purpose for kept, _ in found):
            raise SignerRefused(reason="unknown_key", text="")
        return [
            self._vouch(tenant, purpose, key_id, public)
            for key_id, (_, public) in zip(key_ids, found, strict=True)
        ]

    async def attester(self, tenant: TenantId) -> bytes:
        """Who vouches for the tenant's keys now."""
        if tenant not in self.held:
            raise SignerRefused(reason="unknown_key", text="")
        return self._attester(tenant).public_key().public_bytes_raw()

    def _attester(self, tenant: TenantId) -> Ed25519PrivateKey:
        return self.attesters.setdefault(tenant, Ed25519PrivateKey.generate())

    def _vouch(self, tenant: TenantId, purpose: str, key_id: str, public: bytes) -> VouchedKey:
        message = attestation_message(org_name(tenant), purpose, bytes.fromhex(key_id), public)
        return VouchedKey(key_id=key_id, public_key=public, attestation=self._attester(tenant).sign(message))

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
