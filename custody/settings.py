"""Configuration: one frozen object, read once at the start of a process, complete or refused by name.

It comes from the TOML file that `CUSTODY_CONFIG` names. A value may instead come from the environment as
`CUSTODY_SECTION__NAME`, which is how secrets are given without a file. Limits have no default: someone must choose.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_VARIABLE = "CUSTODY_CONFIG"
"""Names the TOML file."""


class Section(BaseModel):
    """A part of the configuration: frozen, and closed to unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


class ChainSettings(Section):
    """One chain and the limits under which we act on it."""

    id: str
    """CAIP-2 name."""
    kind: Literal["stellar", "evm"]
    """Which family of code serves it."""
    rpc_url: str
    """Stellar RPC or Ethereum JSON-RPC."""
    network_passphrase: str = ""
    """Stellar only."""
    token_contracts: frozenset[Annotated[str, Field(pattern=r"^C[A-Z2-7]{55}$")]] = frozenset()
    """Stellar only: C… ids of the SEP-41 tokens whose contracts are believed. Assets issued by accounts need no entry here."""
    audit_ledgers: bool = False
    """Stellar only: prove every transaction of every ledger, not only those that touch our accounts."""
    chain_id: int = 0
    """EVM only. Source: EIP-155."""
    confirmations: int = Field(ge=0)
    """How many blocks must follow before a block is final to us. 0 on Stellar, where a closed ledger is final."""
    start_height: int = Field(default=0, ge=0)
    """First block to ingest on an empty cursor; 0 means the oldest that the node has."""
    poll_interval_s: float = Field(default=1.0, gt=0)
    """How long to wait at the tip."""
    max_fee_stroops: int = Field(default=0, ge=0)
    """Stellar only: the most that one transaction may cost."""
    gas_limit_native: int = Field(default=0, ge=0)
    """EVM only: gas limit of a plain transfer."""
    gas_limit_erc20: int = Field(default=0, ge=0)
    """EVM only: gas limit of a token transfer."""
    max_fee_per_gas_wei: int = Field(default=0, ge=0)
    """EVM only: cap of the fee per gas. Source: EIP-1559."""
    max_priority_fee_per_gas_wei: int = Field(default=0, ge=0)
    """EVM only: cap of the tip per gas. Source: EIP-1559."""
    tx_valid_s: int = Field(ge=10)
    """How long a signed transaction may wait to be included."""
    tx_valid_ledgers: int = Field(default=0, ge=0)
    """Stellar only: the ledger bound, counted from our own ingested height."""

    @model_validator(mode="after")
    def complete(self) -> ChainSettings:
        """Each family's own limits must have been chosen."""
        stellar = (self.network_passphrase, self.max_fee_stroops, self.tx_valid_ledgers)
        evm = (
            self.chain_id,
            self.gas_limit_native,
            self.gas_limit_erc20,
            self.max_fee_per_gas_wei,
            self.max_priority_fee_per_gas_wei,
        )
        optional = (self.token_contracts, self.audit_ledgers)
        chosen, foreign = (stellar, evm) if self.kind == "stellar" else (evm, (*stellar, *optional))
        if not all(chosen) or any(foreign):
            raise ValueError(f"chain {self.id} needs all limits of kind {self.kind} and none of the other")
        return self


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
    def fit_for_production(self) -> Settings:
        """Production refuses sandbox rails and unconfirmed credits."""
        if self.environment == "production":
            sandboxes = [name for name, rail in self.rails.items() if rail.kind == "sandbox"]
            hasty = [chain.id for chain in self.chains if chain.kind == "evm" and chain.confirmations == 0]
            if sandboxes or hasty:
                raise ValueError(
                    f"not for production: rails {sandboxes}, chains without confirmations {hasty}"
                )
        return self

    def chain(self, chain_id: str) -> ChainSettings:
        """The settings of one chain. Raises LookupError when it is not configured."""
        for chain in self.chains:
            if chain.id == chain_id:
                return chain
        raise LookupError(f"chain {chain_id} is not configured")


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
