"""The settings of webhooks: under which keys secrets are sealed, and where we send at all."""

from __future__ import annotations

import base64
import binascii
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from custody.chain_settings import Section


class WebhookSettings(Section):
    """How tenants' events are sent to them. Without this section nothing is."""

    secret_keys: tuple[SecretStr, ...] = Field(min_length=1)
    """Base64 of 32 bytes each. The first seals endpoints' secrets in the database; all open them."""
    timeout_s: int = Field(default=10, ge=1, le=60)
    """A receiver that takes longer has not answered."""
    allow_http: bool = False
    """Plain http too. Development only."""
    allowed_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Private networks that endpoints may lie in all the same. Production refuses loopback and link-local ones."""
    ca_file: Path | None = None
    """Certificates of an own authority, trusted beside the public ones."""

    @field_validator("secret_keys")
    @classmethod
    def keys_fit(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        """AES-256 takes 32 bytes."""
        for key in keys:
            try:
                length = len(base64.b64decode(key.get_secret_value(), validate=True))
            except binascii.Error:
                length = 0
            if length != 32:
                raise ValueError("each of secret_keys is base64 of 32 bytes")
        return keys

    @property
    def development_only(self) -> bool:
        """Whether it lets anybody read on the way, or lets tenants reach this machine and its neighbours."""
        return self.allow_http or any(
            network.overlaps(special)
            for network in self.allowed_networks
            for special in _THIS_MACHINE
            if isinstance(network, IPv4Network) == isinstance(special, IPv4Network)
        )


_THIS_MACHINE = tuple(
    ip_network(text) for text in ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "::/127", "fe80::/10")
)
"""Loopback, and link-local, where clouds keep their credentials."""
