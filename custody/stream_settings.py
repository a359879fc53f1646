"""The settings of the event stream: to which broker all events are carried."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from custody.chain_settings import Section


class EventStreamSettings(Section):
    """Where all tenants' events go for systems of the operator. Without this section nothing is carried anywhere."""

    kind: Literal["jetstream"] = "jetstream"
    """Which broker."""
    servers: tuple[str, ...] = Field(min_length=1)
    """`nats://host:port` or `tls://host:port`, any of one cluster."""
    stream: str = Field(default="CUSTODY", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """Name of the JetStream stream; also of our own place in it."""
    subject_prefix: str = Field(
        default="custody", pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=100
    )
    """Before tenant and type in every subject."""
    create_stream: bool = False
    """Whether the stream is made, with the server's defaults, where there is none."""
    credentials_file: Path | None = None
    """NATS credentials (JWT and seed)."""
    token: SecretStr | None = None
    """Or a token."""
    ca_file: Path | None = None
    """Certificates of an own authority."""
    timeout_s: int = Field(default=5, ge=1, le=60)
    """After so long without an acknowledgement, whether an event was stored is unknown, and it is sent again."""
