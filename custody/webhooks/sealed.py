"""Secrets of endpoints at rest: AES-256-GCM under a key from the configuration, bound to the very row that they stand in.

We must sign with them, so that a hash would not do; a dump of the database alone opens none of them. The first key seals; all
open, which is how the key is changed. Source: NIST SP 800-38D.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from custody.kernel.ids import TenantId
from custody.webhook_settings import WebhookSettings
from custody.webhooks.errors import SecretUnreadable, WebhooksNotConfigured

_NONCE_BYTES = 12
_SECRET_BYTES = 32
"""Standard Webhooks asks for 24 to 64."""
_PREFIX = "whsec_"


class SecretBox:
    """Seals and opens endpoints' secrets."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys` are 32 bytes each, the one that seals first."""
        self._ciphers = [AESGCM(key) for key in keys]

    def seal(self, tenant: TenantId, endpoint_id: UUID, secret_id: UUID, secret: bytes) -> bytes:
        """Nonce and ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, secret, _place(tenant, endpoint_id, secret_id))

    def open(self, tenant: TenantId, endpoint_id: UUID, secret_id: UUID, sealed: bytes) -> bytes:
        """The secret. Raises SecretUnreadable when no key opens it, or it was moved from another row."""
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(
                    sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _place(tenant, endpoint_id, secret_id)
                )
            except InvalidTag:
                continue
        raise SecretUnreadable(endpoint=endpoint_id)


def build_box(settings: WebhookSettings | None) -> SecretBox:
    """The box of this installation. Raises WebhooksNotConfigured."""
    if settings is None:
        raise WebhooksNotConfigured
    return SecretBox([base64.b64decode(key.get_secret_value()) for key in settings.secret_keys])


def new_secret() -> bytes:
    """256 random bits."""
    return os.urandom(_SECRET_BYTES)


def show_secret(secret: bytes) -> str:
    """The text that a receiver configures: `whsec_` and base64. Source: Standard Webhooks, "Secrets"."""
    return _PREFIX + base64.b64encode(secret).decode()


def _place(tenant: TenantId, endpoint_id: UUID, secret_id: UUID) -> bytes:
    return f"{tenant}/{endpoint_id}/{secret_id}".encode()
