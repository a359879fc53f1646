"""What operators ask of the signer's keys: to see them, to make one, to back wrapped ones up and to take keys into use."""

from __future__ import annotations

from uuid import UUID

from custody.kernel.ids import TenantId
from custody.signing.client import SignerClient
from custody.signing.errors import SignerContradicted
from custody.signing.intent_fields import org_name
from custody.signing.model import HeldKey, WrappedCopy
from signer.protocol import key_backup, messages


class KeyDesk(SignerClient):
    """Speaks to one signer with an operator's role."""

    async def list_keys(self, tenant: TenantId) -> list[HeldKey]:
        """All keys of the tenant, oldest first."""
        held: list[HeldKey] = []
        seen = 0
        while True:
            page = await self._ask(messages.ListKeys(org=org_name(tenant), start=seen), messages.KeyList)
            held += [_held(view) for view in page.keys]
            seen += len(page.keys)
            if not page.keys or seen >= page.total:
                return held

    async def find_key(self, key_id: str) -> HeldKey:
        """One key, whoever's it is. Raises SignerRefused with the reason unknown_key."""
        return _held(await self._ask(messages.PublicKey(key_id=key_id), messages.KeyView))

    async def make_key(
        self, *, request_id: UUID, tenant: TenantId, vault: str, curve: str, label: str, storage: str
    ) -> HeldKey:
        """A key born in the HSM. Idempotent by `request_id`."""
        request = messages.CreateKey(
            request_id=str(request_id),
            org=org_name(tenant),
            vault=vault,
            curve=curve,
            label=label,
            storage=storage,
        )
        view = await self._ask(request, messages.KeyView)
        asked = (request.org, request.vault, request.curve, request.label, request.storage)
        if (view.org, view.vault, view.curve, view.label, view.storage) != asked:
            raise SignerContradicted("the key is not the one that was asked for", key_id=view.key_id)
        return _held(view)

    async def admit_key(
        self,
        *,
        tenant: TenantId,
        key_id: str,
        vault: str,
        curve: str,
        label: str,
        public_key: bytes,
        blob: bytes,
    ) -> HeldKey:
        """Take a key into use that a ceremony imported (no blob) or a backup brings. Idempotent by its id."""
        request = key_backup.AdmitKey(
            request_id=f"admit-{key_id}",
            key_id=key_id,
            org=org_name(tenant),
            vault=vault,
            curve=curve,
            label=label,
            public_key=public_key,
            blob=blob,
        )
        view = await self._ask(request, messages.KeyView)
        if (view.key_id, view.public_key) != (key_id, public_key.hex()):
            raise SignerContradicted("the key is not the one that was brought", key_id=view.key_id)
        return _held(view)

    async def export_keys(self, tenant: TenantId) -> list[WrappedCopy]:
        """The wrapped keys of the tenant, oldest first."""
        copies: list[WrappedCopy] = []
        seen = 0
        while True:
            page = await self._ask(
                key_backup.ExportKeys(org=org_name(tenant), start=seen), key_backup.WrappedKeyList
            )
            copies += [
                WrappedCopy(
                    key_id=view.key_id,
                    vault=view.vault,
                    label=view.label,
                    public_key=view.public_key,
                    blob=view.blob,
                )
                for view in page.keys
            ]
            seen += page.passed
            if not page.passed or seen >= page.total:
                return copies


def _held(view: messages.KeyView) -> HeldKey:
    return HeldKey(
        key_id=view.key_id,
        vault=view.vault,
        curve=view.curve,
        label=view.label,
        public_key=view.public_key,
        account=view.address,
        storage=view.storage,
        origin=view.origin,
        state=view.state,
    )
