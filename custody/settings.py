"""Configuration: one frozen object, read once at the start of a process, complete or refused by name.

It comes from the TOML file that `CUSTODY_CONFIG` names. A value may instead come from the environment as
`CUSTODY_SECTION__NAME`, which is how secrets are given without a file. Limits have no default: someone must choose.
"""

from __future__ import annotations

import os
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from custody.chain_settings import STELLAR_NETWORKS, ChainSettings, LakeSettings, Section
from custody.screening_settings import ScreeningSettings
from custody.stream_settings import EventStreamSettings
from custody.webhook_settings import WebhookSettings

__all__ = ["STELLAR_NETWORKS", "ChainSettings", "LakeSettings", "Section", "Settings", "load"]

CONFIG_VARIABLE = "CUSTODY_CONFIG"
"""Names the TOML file."""


class DatabaseSettings(Section):
    """Where the truth is."""

    url: SecretStr
    """`postgresql://custody_app:…@host:port/name`."""
    pool_size: int = Field(default=10, ge=2, le=200)
    """Connections that this process keeps."""


class RedisSettings(Section):
    """Where wake-ups go. Losing it delays nothing beyond the sweeper's interval."""

    url: SecretStr
    """`redis://host:port/0`."""


class SignerSettings(Section):
    """How to reach the signer."""

    socket: Path
    """Its Unix socket."""
    timeout_s: int = Field(default=10, ge=1, le=120)
    """After so long without an answer, the outcome is unknown."""


class TlsSettings(Section):
    """TLS of the API itself, and whom it asks for a certificate."""

    certificate: Path
    """PEM: the server's certificate and what leads to its root."""
    key: Path
    """PEM: its private key."""
    client_ca: Path | None = None
    """PEM: who vouches for clients. With it, whoever has no certificate of theirs does not get as far as HTTP."""


class RateSettings(Section):
    """How many requests a minute one principal may make, by class of route."""

    read: int = Field(default=12_000, ge=1)
    """Reads by REST."""
    write: int = Field(default=6_000, ge=1)
    """Everything that changes something."""
    graphql: int = Field(default=6_000, ge=1)
    """GraphQL documents."""


class ApiSettings(Section):
    """Where the API listens."""

    host: str = "127.0.0.1"
    """Address to bind."""
    port: int = Field(ge=1, le=65535)
    """Port to bind."""
    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    """Larger requests are refused with 413."""
    introspection: bool = False
    """Whether GraphQL describes itself to strangers."""
    public_url: str = Field(default="http://127.0.0.1", pattern=r"^https?://\S*[^/\s]$")
    """What clients call this server, without a slash at the end: part of what they sign for a token."""
    tls: TlsSettings | None = None
    """Without it the API speaks plain HTTP and belongs behind something that does not."""
    requests_per_minute: RateSettings = RateSettings()
    """Beyond these a principal is asked to come back later."""
    key_memory_s: float = Field(default=3.0, ge=0, le=60)
    """For how long a credential that was valid is believed without asking again: the time that a revocation may take."""

    trusted_documents: Path | None = None
    """GraphQL documents that clients name by hash: a folder of `*.graphql`, or a JSON file of SHA-256 to text."""
    trusted_documents_only: bool = False
    """Whether GraphQL executes nothing else."""
    streams_per_principal: int = Field(default=50, ge=1, le=100_000)
    """Sockets and event streams that one credential may hold in one process."""
    cursor_secret: SecretStr | None = None
    """Signs page cursors; the same for all API processes. Without it a secret is derived from `database.url`."""


class PeerTlsSettings(Section):
    """How we are known to a bank that asks for a certificate, and how we know it."""

    ca: Path
    """PEM: who vouches for the bank. Nobody else is believed."""
    certificate: Path
    """PEM: our certificate."""
    key: Path
    """PEM: its private key."""


class RailSettings(Section):
    """One rail to a bank or provider."""

    kind: Literal["sandbox"]
    """Which adapter."""
    base_url: str
    """Where it listens."""
    callback_secret: SecretStr
    """Standard Webhooks secret (`whsec_…`) under which it signs callbacks."""
    timeout_s: int = Field(default=5, ge=1, le=120)
    """After so long without an answer, the outcome is unknown."""
    tls: PeerTlsSettings | None = None
    """Without it, TLS by the system's roots where `base_url` says https."""


class DepositPoolSettings(Section):
    """How many keys for deposit addresses on EVM chains are kept ready. A rule of the signer's policy has to allow each."""

    low_water: int = Field(default=50, ge=0, le=100_000)
    """The worker asks the signer for more when fewer are free; 0 for never."""
    batch_size: int = Field(default=100, ge=1, le=256)
    """How many at once. An hour's batches must fit into the windows of the rule that lets them be made."""


class TreasurySettings(Section):
    """What the worker sees to by itself. Sweeps and levels are rows of each tenant (docs/treasury.md)."""

    interval_s: float = Field(default=5.0, gt=0)
    """How often it looks."""
    trustlines: bool = False
    """Whether each Stellar vault gets a line for every listed asset of its network. Each line locks a base reserve."""
    reserve_margin_stroops: int = Field(default=0, ge=0)
    """How much more than the network's reserve each Stellar vault keeps; 0 for nobody looks."""


class Settings(BaseSettings):
    """Everything that a process needs to know."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="CUSTODY_", env_nested_delimiter="__"
    )

    environment: Literal["development", "production"]
    """Production refuses what only development may use."""
    database: DatabaseSettings
    redis: RedisSettings
    signer: SignerSettings
    api: ApiSettings
    chains: tuple[ChainSettings, ...]
    rails: dict[str, RailSettings] = Field(default_factory=dict)
    """Rail id to its settings."""
    webhooks: WebhookSettings | None = None
    screening: ScreeningSettings | None = None
    event_stream: EventStreamSettings | None = None
    deposit_pool: DepositPoolSettings = DepositPoolSettings()
    address_book_wait_s: int = Field(default=86_400, ge=0)
    """How long a confirmed entry of the address book, and a restriction that is lifted, waits before it counts."""
    treasury: TreasurySettings = TreasurySettings()
    intent_valid_s: int = Field(ge=1)
    """How long approvers have from request to signature."""
    sweep_interval_s: float = Field(default=1.0, gt=0)
    """How often workers look for work that no wake-up announced."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic's signature)
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (pydantic's signature)
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment over the file; nothing else."""
        file = TomlConfigSettingsSource(settings_cls, Path(os.environ.get(CONFIG_VARIABLE, "custody.toml")))
        return (init_settings, env_settings, file)

    @model_validator(mode="after")
    def each_network_once(self) -> Settings:
        """Two names for one network would credit each of its payments twice."""
        names = Counter(chain.id for chain in self.chains)
        networks = Counter(chain.network_passphrase or chain.chain_id for chain in self.chains)
        twice = [str(name) for name, count in (*names.items(), *networks.items()) if count > 1]
        if twice:
            raise ValueError(f"configured twice: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def fit_for_production(self) -> Settings:
        """Production refuses sandbox rails, unconfirmed credits, nodes that anybody on the way can rewrite, and going deaf."""
        if self.environment == "production":
            sandboxes = [name for name, rail in self.rails.items() if rail.kind == "sandbox"]
            hasty = [chain.id for chain in self.chains if chain.is_hasty]
            if sandboxes or hasty:
                raise ValueError(
                    f"not for production: rails {sandboxes}, chains without finality_tag or confirmations {hasty}"
                )
            # What a ledger's transactions did is vouched for by no hash: whoever can rewrite it can credit himself.
            open_roads = [url for chain in self.chains for url in chain.node_urls if not _is_private(url)]
            if open_roads:
                raise ValueError(f"not for production: plain http to {', '.join(map(_host, open_roads))}")
            unproved = [c.id for c in self.chains if c.horizon_url and not c.horizon_accepted]
            if unproved:
                raise ValueError(f"not for production: horizon_url without horizon_accepted on {unproved}")
            blind = [
                chain.id
                for chain in self.chains
                if chain.kind == "evm"
                and chain.inner_value == "balances"
                and not chain.survey_questions_per_s
            ]
            if blind:
                raise ValueError(
                    f"not for production: survey_questions_per_s = 0 without traces on {', '.join(blind)}"
                )
            deaf = [chain.id for chain in self.chains if chain.kind == "stellar" and not chain.silence_s]
            if deaf:
                raise ValueError(f"not for production: silence_after_s = 0 on {', '.join(deaf)}")
            sightless = [chain.id for chain in self.chains if not chain.blind_after_s]
            if sightless:
                raise ValueError(f"not for production: blind_after_s = 0 on {', '.join(sightless)}")
            if self.screening is not None and not _is_private(self.screening.url):
                raise ValueError("not for production: plain http to the screener")
            if self.webhooks is not None and self.webhooks.development_only:
                raise ValueError("not for production: webhooks over http, to loopback or to link-local")
            if self.event_stream is not None:
                open_lines = [url for url in self.event_stream.servers if not _is_private(url)]
                if open_lines:
                    raise ValueError(f"not for production: plain nats to {', '.join(map(_host, open_lines))}")
        return self

    def chain(self, chain_id: str) -> ChainSettings:
        """The settings of one chain. Raises LookupError when it is not configured."""
        for chain in self.chains:
            if chain.id == chain_id:
                return chain
        raise LookupError(f"chain {chain_id} is not configured")


def _host(url: str) -> str:
    """Without what follows it: a provider's key is often in the path."""
    return urlsplit(url).hostname or ""


def _is_private(url: str) -> bool:
    """Whether what is said at this address stays unaltered on the way: TLS, this machine, or our own network."""
    if urlsplit(url).scheme in ("https", "wss", "tls"):
        return True
    host = _host(url)
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".internal", ".local", ".svc", ".localhost"))
    return address.is_private or address.is_loopback


def load() -> Settings:
    """The process's settings, or an end with one line for each thing that is missing or wrong."""
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"  {'.'.join(str(part) for part in item['loc']) or 'settings'}: {item['msg']}"
            for item in error.errors(include_input=False, include_url=False)
        ]
        file = Path(os.environ.get(CONFIG_VARIABLE, "custody.toml"))
        if not file.exists():
            lines = [
                f"  there is no file {file}: set {CONFIG_VARIABLE} to the path of the configuration file"
            ]
        raise SystemExit("configuration refused:\n" + "\n".join(lines)) from None
