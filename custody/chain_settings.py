"""The settings of one chain of either kind: where its blocks are read, when they are final, and the limits under which we act."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from custody.evm_presets import PRESETS, FinalityTag, PresetName
from custody.settings_evm import EvmSending

TRANSFER_GAS = 21_000
"""What a transfer of ether takes by itself. Source: yellow paper, appendix G."""
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


AssetReference = Annotated[str, Field(pattern=r"^(native|erc20:0x[0-9a-fA-F]{40})$")]
"""An asset within its chain. Source: CAIP-19, as `custody.kernel.assetid` has it."""
_TAGS: tuple[FinalityTag, ...] = ("", "safe", "finalized")
"""In the order in which a block meets them."""


class AssetFinality(Section):
    """What credits of one asset of an EVM chain wait for, beyond the chain's own rule."""

    finality_tag: FinalityTag = ""
    """As the chain's; empty: the chain's."""
    confirmations: int | None = Field(default=None, ge=0)
    """As the chain's; None: the chain's."""
    agreement_from: int | None = Field(default=None, ge=0)
    """Atomic units from which on a credit waits until `agreement_providers` name its block's hash. 0 for every credit, None for
    none but what the chain's `agreement_required` says. Larger than 2^63: as text."""


class ChainSettings(Section):
    """One chain and the limits under which we act on it."""

    preset: Literal["", PresetName] = ""
    """EVM only: a well-known chain (`evm_presets`). What it knows need not be said here, and what is said here counts."""
    id: str
    """CAIP-2 name."""
    kind: Literal["stellar", "evm"]
    """Which family of code serves it."""
    rpc_url: str
    """Stellar RPC or Ethereum JSON-RPC. Transactions are sent there, on EVM to the others too; blocks are read there first."""
    other_rpc_urls: tuple[str, ...] = ()
    """Further providers of the same network, in order of preference. On Stellar each ledger's hash is compared among all."""
    ws_url: str = ""
    """EVM only: where a node tells of new blocks (`eth_subscribe`). It wakes the worker and is not believed; polling goes on."""
    agreement_required: bool = False
    """Stellar: book a ledger only when a second provider has named its hash; else unconfirmed ledgers are only counted.
    EVM: every credit waits until `agreement_providers` name its block's hash. For some assets or amounts only: `assets`."""
    agreement_providers: int = Field(default=2, ge=2)
    """EVM only: how many providers, the one that is read from included, must name the same hash where agreement is asked for."""
    provider_timeout_s: int = Field(default=20, ge=1, le=120)
    """A provider that takes longer for one answer is passed over."""
    provider_lag_max: int = Field(default=5, ge=1)
    """A provider that is more blocks behind the best is passed over."""
    lake: LakeSettings | None = None
    """Stellar only: where ledgers lie that the providers no longer keep."""
    horizon_url: str = ""
    """Stellar only: read ledgers from a Horizon instead. It proves less (docs/ledger-sources.md)."""
    horizon_accepted: bool = False
    """Stellar only: production reads from a Horizon only where somebody has accepted what it cannot prove."""
    retention_alarm_percent: int = Field(default=25, ge=1, le=90)
    """Stellar only: alarm when less than this share of a provider's window is left before it drops what we still need."""
    silence_after_s: int | None = Field(default=None, ge=0)
    """No block booked for so long is an alarm, and the worker not ready. 0 for never; by default 30 on Stellar, on EVM what
    the preset says, or never."""
    blind_after_s: int = Field(default=120, ge=0)
    """Nothing new is signed or sent while there may be older blocks than this that our own ingestion has not seen. 0 for any age.
    A healthy worker has seen what is a few seconds old; a restart takes less than the default."""
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
    l1_fee: bool = False
    """EVM only: our own transactions' receipts must tell the OP Stack's `l1Fee`; without it their fee would be booked too low."""
    logs: Literal["prove", "sample"] = "prove"
    """EVM only: how blocks without logs of ours are known where the provider has no `eth_getBlockReceipts`: proved, or by windows
    of `eth_getLogs`, which are believed and proved by sample (docs/evm-chains.md)."""
    logs_sample_every: int = Field(default=20, ge=1)
    """EVM only: of the blocks that such windows say nothing of, one in so many is proved all the same."""
    finality_tag: FinalityTag = ""
    """EVM only: a block is final when the node's block of this tag is not below it. With confirmations too: when both say so."""
    survey_questions_per_s: int = Field(default=100, ge=0, le=10_000)
    """EVM only: how many balances of our accounts are asked for in a second, to find what came unseen. 0 for never."""
    survey_period_s: int = Field(default=300, ge=1)
    """EVM only: how long to wait after all of them were asked for."""
    confirmations: int = Field(ge=0)
    """How many blocks must follow before a block is final to us. 0 on Stellar, where a closed ledger is final."""
    assets: dict[AssetReference, AssetFinality] = Field(default_factory=dict)
    """EVM only: assets whose credits wait for more than the chain's rule, by reference: `native`, or `erc20:0x…`."""
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
    evm: EvmSending = EvmSending()
    """EVM only: fees, replacement, and how many transactions of a key may be under way."""
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
        """Every address from which this chain is read over the network."""
        lake = "" if self.lake is None else self.lake.endpoint
        return tuple(filter(None, (self.horizon_url, self.rpc_url, *self.other_rpc_urls, self.ws_url, lake)))

    @property
    def is_hasty(self) -> bool:
        """Whether blocks that may still be replaced count as final."""
        return self.kind == "evm" and self.confirmations == 0 and not self.finality_tag

    @property
    def calls_from(self) -> int | None:
        """First block of which the value inside calls is read call by call; None for never."""
        return None if self.inner_value == "balances" else self.inner_value_from

    @model_validator(mode="before")
    @classmethod
    def take_preset(cls, given: Any) -> Any:
        """Fill in what the preset knows and the configuration does not say."""
        preset = PRESETS.get(given.get("preset") or "") if isinstance(given, dict) else None
        if preset is None:
            return given
        if given.get("chain_id", preset.chain_id) != preset.chain_id and "wrapped_native" not in given:
            raise ValueError(
                f"the preset {given['preset']} is of chain id {preset.chain_id}: say wrapped_native of {given['chain_id']}"
            )
        return {**preset.settings(), **given}

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
            self.lake,
            self.horizon_url,
            self.horizon_accepted,
            self.channels,
            self.channel_balance_stroops,
            self.fee_bump_max_stroops,
            self.fee_account_balance_stroops,
        )
        evm_optional = (
            self.preset,
            self.ws_url,
            self.agreement_providers != 2,
            self.unprovable_blocks != "refuse",
            self.inner_value != "balances",
            self.inner_value_from,
            self.wrapped_native,
            self.survey_questions_per_s != 100,
            self.survey_period_s != 300,
            self.l1_fee,
            self.logs != "prove",
            self.finality_tag,
            self.assets,
            self.evm != EvmSending(),
        )
        if self.kind == "stellar":
            fits = all(stellar) and not any((*evm, *evm_optional))
        else:
            fits = all(evm) and not any((*stellar, *optional))
        if not fits:
            raise ValueError(f"chain {self.id} needs all limits of kind {self.kind} and none of the other")
        if self.evm.rollup == "arbitrum" and min(self.gas_limit_native, self.gas_limit_erc20) <= TRANSFER_GAS:
            raise ValueError(f"chain {self.id} counts the layer below as gas: its gas limits leave no room")
        return self

    @model_validator(mode="after")
    def helpers_can_pay(self) -> ChainSettings:
        """A channel or fee account must be able to pay a few times before it is filled up again."""
        bump_max = self.fee_bump_max_stroops
        for name, wanted, balance, fee_max in (
            ("channel_balance_stroops", self.channels, self.channel_balance_stroops, self.max_fee_stroops),
            ("fee_account_balance_stroops", bump_max, self.fee_account_balance_stroops, bump_max),
        ):
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
        agreed = self.agreement_required or any(
            each.agreement_from is not None for each in self.assets.values()
        )
        if agreed and len(providers) < self.agreement_providers:
            raise ValueError(f"chain {self.id} requires agreement and has nobody to agree: other_rpc_urls")
        if self.ws_url and urlsplit(self.ws_url).scheme not in ("ws", "wss"):
            raise ValueError(f"chain {self.id} needs a ws_url of ws:// or wss://")
        if self.lake is not None and not self.start_height:
            raise ValueError(f"chain {self.id} has a lake and so needs a start_height")
        return self

    @model_validator(mode="after")
    def assets_wait_longer(self) -> ChainSettings:
        """An asset's rule adds to the chain's: one that would be met earlier says something that cannot be."""
        lowered = Counter(name.lower() for name in self.assets)
        twice = [name for name, count in lowered.items() if count > 1]
        if twice:
            raise ValueError(f"chain {self.id} names {', '.join(twice)} twice")
        for name, rule in self.assets.items():
            if not rule.model_fields_set:
                raise ValueError(f"chain {self.id} says nothing of {name}")
            earlier = rule.finality_tag and _TAGS.index(rule.finality_tag) < _TAGS.index(self.finality_tag)
            if earlier or (rule.confirmations is not None and rule.confirmations < self.confirmations):
                raise ValueError(
                    f"chain {self.id}: {name} cannot be final before the chain's own rule says so"
                )
        return self


def _same_address(url: str) -> tuple[str, str, str]:
    parts = urlsplit(url)
    return parts.netloc.lower(), parts.path.rstrip("/"), parts.query
