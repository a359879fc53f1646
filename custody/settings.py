"""Configuration: one frozen object, read once at the start of a process, complete or refused by name.

It comes from the TOML file that `CUSTODY_CONFIG` names. A value may instead come from the environment as
`CUSTODY_SECTION__NAME`, which is how secrets are given without a file. Limits have no default: someone must choose.
"""

from __future__ import annotations

import os
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

CONFIG_VARIABLE = "CUSTODY_CONFIG"
"""Names the TOML file."""


STELLAR_SILENCE_S = 30
"""A Stellar network closes a ledger every five to six seconds; after so long without one something is wrong."""
STELLAR_RESERVE = 10_000_000
"""Stroops that an account without entries of its own must keep: two base reserves. Source: Stellar protocol, base reserve."""
STELLAR_NETWORKS = {
    "stellar:pubnet": "Public Global Stellar Network ; September 2015",
    "stellar:testnet": "Test SDF Network ; September 2015",
}
"""Passphrases by CAIP-2 name. Source: CASA, stellar namespace; Stellar documentation."""


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


class LakeSettings(Section):
    """A SEP-54 lake of a Stellar network's ledgers, as Galexie writes it.

    Credentials come from the environment, as `AWS_…` or `GOOGLE_…`.
    """

    url: str = Field(pattern=r"^(file:///|(s3|gs)://[a-z0-9][a-z0-9._-]+(/|$))")
    """The folder that holds `.config.json`. Never with credentials in it: it is shown in errors."""
    region: str = ""
    """S3 only."""
    endpoint: str = ""
    """S3 only: where a store that speaks S3 listens."""
    anonymous: bool = False
    """Ask without credentials, as public lakes allow."""
    ahead_objects: int = Field(default=16, ge=0, le=64)
    """How many objects are fetched before they are needed."""
    behind_ledgers: int = Field(default=1000, ge=0)
    """The lake is read while more ledgers than this are missing to the tip, or the RPC has them no more."""


class ChainSettings(Section):
    """One chain and the limits under which we act on it."""

    id: str
    """CAIP-2 name."""
    kind: Literal["stellar", "evm"]
    """Which family of code serves it."""
    rpc_url: str
    """Stellar RPC or Ethereum JSON-RPC. Transactions are sent there; ledgers are read there first."""
    other_rpc_urls: tuple[str, ...] = ()
    """Stellar only: further providers of the same network, in order of preference. Each ledger's hash is compared among all."""
    agreement_required: bool = False
    """Stellar only: book a ledger only when a second provider has named its hash. Else unconfirmed ledgers are only counted."""
    provider_timeout_s: int = Field(default=20, ge=1, le=120)
    """Stellar only: a provider that takes longer for one answer is passed over."""
    provider_lag_max: int = Field(default=5, ge=1)
    """Stellar only: a provider that is more ledgers behind the best is passed over."""
    lake: LakeSettings | None = None
    """Stellar only: where ledgers lie that the providers no longer keep."""
    horizon_url: str = ""
    """Stellar only: read ledgers from a Horizon instead. It proves less (docs/ledger-sources.md)."""
    horizon_accepted: bool = False
    """Stellar only: production reads from a Horizon only where somebody has accepted what it cannot prove."""
    retention_alarm_percent: int = Field(default=25, ge=1, le=90)
    """Stellar only: alarm when less than this share of a provider's window is left before it drops what we still need."""
    silence_after_s: int | None = Field(default=None, ge=0)
    """No block booked for so long is an alarm, and the worker not ready. 0 for never; by default 30 on Stellar, never on EVM."""
    network_passphrase: str = ""
    """Stellar only."""
    token_contracts: frozenset[Annotated[str, Field(pattern=r"^C[A-Z2-7]{55}$")]] = frozenset()
    """Stellar only: C… ids of the SEP-41 tokens whose contracts are believed. Assets issued by accounts need no entry here."""
    audit_ledgers: bool = False
    """Stellar only: prove every transaction of every ledger, not only those that touch our accounts."""
    chain_id: int = 0
    """EVM only. Source: EIP-155."""
    unprovable_blocks: Literal["refuse", "tell"] = "refuse"
    """EVM only: what becomes of a block of which a part cannot be proved or read. Told and booked, where somebody chose so."""
    inner_value: Literal["balances", "debug", "trace"] = "balances"
    """EVM only: how value inside calls is seen: by balances, `debug_traceBlockByHash`, or `trace_block` (docs/evm-blocks.md)."""
    inner_value_from: int = Field(default=0, ge=0)
    """EVM only: below this height value inside calls is seen by balances. A change for blocks that are ingested is refused."""
    wrapped_native: frozenset[Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]] = frozenset()
    """EVM only: contracts whose Deposit and Withdrawal events make and burn tokens, as WETH9's do."""
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
    channels: int = Field(default=0, ge=0, le=1000)
    """Stellar only: how many channel accounts of each tenant pay side by side. 0 for none: one payment at a time."""
    channel_balance_stroops: int = Field(default=0, ge=0)
    """Stellar only: what a channel account holds when it is full, its reserve included."""
    fee_bump_max_stroops: int = Field(default=0, ge=0)
    """Stellar only: the most that one fee bump may cost. 0 for no fee bumps and no account that pays them."""
    fee_account_balance_stroops: int = Field(default=0, ge=0)
    """Stellar only: what the account that pays for fee bumps holds when it is full, its reserve included."""
    tx_valid_s: int = Field(ge=10)
    """How long a signed transaction may wait to be included."""
    tx_valid_ledgers: int = Field(default=0, ge=0)
    """Stellar only: the ledger bound, counted from our own ingested height."""

    @property
    def silence_s(self) -> int:
        """Seconds without a block that are an alarm; 0 for never."""
        if self.silence_after_s is not None:
            return self.silence_after_s
        return STELLAR_SILENCE_S if self.kind == "stellar" else 0

    @property
    def node_urls(self) -> tuple[str, ...]:
        """Every address from which this chain's blocks are read over the network."""
        lake = (self.lake.endpoint,) if self.lake is not None and self.lake.endpoint else ()
        return (*filter(None, (self.horizon_url,)), self.rpc_url, *self.other_rpc_urls, *lake)

    @property
    def calls_from(self) -> int | None:
        """First block of which the value inside calls is read call by call; None for never."""
        return None if self.inner_value == "balances" else self.inner_value_from

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
        optional = (
            self.token_contracts,
            self.audit_ledgers,
            self.other_rpc_urls,
            self.agreement_required,
            self.lake,
            self.horizon_url,
            self.horizon_accepted,
            self.channels,
            self.channel_balance_stroops,
            self.fee_bump_max_stroops,
            self.fee_account_balance_stroops,
        )
        evm_optional = (
            self.unprovable_blocks != "refuse",
            self.inner_value != "balances",
            self.inner_value_from,
            self.wrapped_native,
        )
        if self.kind == "stellar":
            fits = all(stellar) and not any((*evm, *evm_optional))
        else:
            fits = all(evm) and not any((*stellar, *optional))
        if not fits:
            raise ValueError(f"chain {self.id} needs all limits of kind {self.kind} and none of the other")
        return self

    @model_validator(mode="after")
    def helpers_can_pay(self) -> ChainSettings:
        """A channel or fee account must be able to pay a few times before it is filled up again."""
        pairs = (
            ("channel_balance_stroops", self.channels, self.channel_balance_stroops, self.max_fee_stroops),
            (
                "fee_account_balance_stroops",
                self.fee_bump_max_stroops,
                self.fee_account_balance_stroops,
                self.fee_bump_max_stroops,
            ),
        )
        for name, wanted, balance, fee_max in pairs:
            if bool(wanted) != bool(balance) or (wanted and balance < STELLAR_RESERVE + 4 * fee_max):
                raise ValueError(
                    f"chain {self.id}: {name} must hold {STELLAR_RESERVE} stroops of reserve and four fees"
                )
        return self

    @model_validator(mode="after")
    def one_network(self) -> ChainSettings:
        """A name that promises one network must not be given to another: its play money would be credited as real."""
        if self.kind == "evm" and self.id != f"eip155:{self.chain_id}":
            raise ValueError(f"chain {self.id} is not eip155:{self.chain_id}, its chain_id")
        known = STELLAR_NETWORKS.get(self.id)
        named = [name for name, words in STELLAR_NETWORKS.items() if words == self.network_passphrase]
        if self.kind == "stellar" and (known or named) and known != self.network_passphrase:
            raise ValueError(f"chain {self.id} has the passphrase of {named or 'another network'}")
        return self

    @model_validator(mode="after")
    def sources_make_sense(self) -> ChainSettings:
        """Providers that are one and the same confirm nothing; a lake without a start would begin at genesis."""
        if self.horizon_url and (self.other_rpc_urls or self.lake is not None):
            raise ValueError(f"chain {self.id} reads horizon_url alone, or RPC providers and a lake")
        providers = [_same_address(url) for url in (self.rpc_url, *self.other_rpc_urls)]
        if len(set(providers)) < len(providers):
            raise ValueError(f"chain {self.id} names one RPC provider twice")
        if self.agreement_required and len(providers) < 2:
            raise ValueError(f"chain {self.id} requires agreement and has nobody to agree: other_rpc_urls")
        if self.lake is not None and not self.start_height:
            raise ValueError(f"chain {self.id} has a lake and so needs a start_height")
        return self


def _same_address(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    return parts.netloc.lower(), parts.path.rstrip("/"), parts.query


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
            hasty = [chain.id for chain in self.chains if chain.kind == "evm" and chain.confirmations == 0]
            if sandboxes or hasty:
                raise ValueError(
                    f"not for production: rails {sandboxes}, chains without confirmations {hasty}"
                )
            # What a ledger's transactions did is vouched for by no hash: whoever can rewrite it can credit himself.
            open_roads = [url for chain in self.chains for url in chain.node_urls if not _is_private(url)]
            if open_roads:
                raise ValueError(f"not for production: plain http to {', '.join(map(_host, open_roads))}")
            unproved = [c.id for c in self.chains if c.horizon_url and not c.horizon_accepted]
            if unproved:
                raise ValueError(f"not for production: horizon_url without horizon_accepted on {unproved}")
            deaf = [chain.id for chain in self.chains if chain.kind == "stellar" and not chain.silence_s]
            if deaf:
                raise ValueError(f"not for production: silence_after_s = 0 on {', '.join(deaf)}")
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
    if urlsplit(url).scheme in ("https", "wss"):
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
