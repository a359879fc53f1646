"""Deposits: what arrived from outside at one of our vaults, what became of it, and the case of what could not be credited.
Frozen values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID

from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import CaseId, DepositId, VaultId, WalletId, WithdrawalId, derived_uuid
from custody.ledger.model import Command


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedTransfer:
    """An arrival as ingestion saw it in a block."""

    chain: ChainId
    """Where."""
    height: int
    """Block or ledger that holds it."""
    block_hash: str
    """That block's hash."""
    tx_hash: str
    """Transaction that moved it."""
    ordinal: int
    """Place within the transaction, the same in every block that the transaction may land in."""
    asset: AssetId
    """What arrived."""
    source: str
    """Holder it came from; empty when newly issued. Shown, never trusted: many senders share one account."""
    account: str
    """Our vault's account."""
    tag: int | None
    """Muxed id or id memo."""
    memo: str = ""
    """The sender's words where they are no tag, as `chains.stellar.memo` spells them."""
    amount: int
    """Atomic units, more than zero."""
    occurred_at: datetime
    """The block's own time."""
    doubt: str = ""
    """Why it is not believed though it came (docs/evm-blocks.md); empty where it is."""


class Observation(StrEnum):
    """What recording an arrival came to."""

    RECORDED = "recorded"
    """New, or back again after a reorganisation."""
    KNOWN = "known"
    """Recorded before; nothing was changed."""
    UNLISTED = "unlisted"
    """New, and its asset is not listed: nobody can be credited yet."""
    FLOODED = "flooded"
    """Not kept: its transaction has brought too many arrivals of unlisted assets already."""
    REFUSED = "refused"
    """Not kept: its token's balance contradicts its events, and the tenant's rule refuses that."""
    UNMOVED = "unmoved"
    """The vault paid itself: it holds what it held, so nobody is credited, nothing is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """One arrival, from the block that first held it to the credit or the suspense account."""

    id: DepositId
    """Shown as `dep_…`. Derived from the tenant and from what arrived, not from the block."""
    state: str
    """One of `transitions.DEPOSITS`."""
    vault_id: VaultId
    """Vault that received it."""
    wallet_id: WalletId | None
    """Wallet that it belongs to; None while nobody can be named."""
    transfer: ObservedTransfer
    """What was seen, in the block where it was seen last."""
    inclusion: int
    """How many blocks have held it, from 1: a reorganisation may move a transaction. Postings are named after it."""
    observed_at: datetime
    """When we first recorded it."""
    changed_at: datetime
    """When its state last changed."""
    lost: bool = False
    """Whether its chain has it no more, and a person let the booking stand."""

    @property
    def posting_id(self) -> UUID:
        """The id under which this inclusion is booked: its own, and another one for each later inclusion."""
        return self.id if self.inclusion == 1 else derived_uuid("deposit", self.id, self.inclusion)


class Reason(StrEnum):
    """Why a final arrival was not credited."""

    MEMO_MISSING = "memo_missing"
    """It came to a shared Stellar account without a memo or muxed id."""
    UNKNOWN_MEMO = "unknown_memo"
    """Its memo or muxed id names no wallet."""
    UNATTRIBUTED = "unattributed"
    """It came to a shared account of a chain that knows no memos, or to an address that nobody has been given."""
    CHAIN_NOT_ENABLED = "chain_not_enabled"
    """It came to a wallet's own address, on a chain that is not enabled for the wallet."""
    UNSUPPORTED_ASSET = "unsupported_asset"
    """Its asset is not listed."""
    BELOW_MINIMUM = "below_minimum"
    """It is less than the tenant takes as a deposit of this asset."""
    DUST = "dust"
    """It is so little that nobody is asked."""
    ACCOUNT_CLOSED = "account_closed"
    """The wallet that it names has closed its account in this asset."""
    ACCOUNT_REFUSED = "account_refused"
    """The wallet's account may not hold that much."""
    DISTRUSTED = "distrusted"
    """Its token's balance contradicts its events; what really came is held for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositRule:
    """What a tenant takes as a deposit of one asset. Zero means that every amount is welcome."""

    minimum: int = 0
    """Atomic units; less goes to suspense for a person to look at."""
    dust: int = 0
    """Atomic units; less goes to suspense and nobody is asked, whomever it names."""
    distrusted: Literal["refuse", "mark"] = "refuse"
    """What becomes of an arrival whose token's balance contradicts its events: it is not booked, or goes to suspense with a
    case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositCase:
    """Why a deposit was not credited, and what a person decided about it."""

    id: CaseId
    """Shown as `cas_…`. Derived from the deposit's inclusion and the reason."""
    sequence: int
    """Order in which cases were opened."""
    deposit_id: DepositId
    """What arrived."""
    state: str
    """One of `transitions.DEPOSIT_CASES`."""
    reason: Reason
    """Why it was not credited."""
    asset: AssetId
    """What arrived; listed or not."""
    amount: int
    """Atomic units."""
    named_wallet_id: WalletId | None
    """The wallet that the sender named, where another reason keeps it from being credited."""
    wallet_id: WalletId | None
    """The wallet that it was assigned to."""
    withdrawal_id: WithdrawalId | None
    """The withdrawal that returns it, or returned it."""
    decided_by: str
    """Subject who assigned, dismissed, or asked for the return; empty while nobody did."""
    note: str
    """What that person wrote down."""
    opened_at: datetime
    """When it was opened."""
    changed_at: datetime
    """When its state last changed."""

    @property
    def is_booked(self) -> bool:
        """Whether its money is in the books: in suspense until the case ends."""
        return self.reason is not Reason.UNSUPPORTED_ASSET


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressMemo:
    """A memo that is to name a wallet."""

    type: str
    """One of `chains.stellar.memo.MEMO_TYPES`."""
    words: str
    """What it says, as arrivals have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """A deposit that a final height does not credit."""

    deposit: Deposit
    """As it will be."""
    reason: Reason
    """Why."""
    named_wallet_id: WalletId | None
    """The wallet that it names all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """What a final height decides about deposits, before it is posted."""

    deposits: tuple[Deposit, ...]
    """In the state and with the wallet that they will have."""
    undecided: tuple[Undecided, ...]
    """Those of them that get a case."""
    commands: tuple[Command, ...]
    """What the ledger is to post for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caution:
    """What credits wait for although their block is final by the chain's rule. Empty: for nothing."""

    final: Mapping[AssetId, int] = field(default_factory=dict)
    """Assets with a rule of their own, each with the height up to which blocks are final by it."""
    agreement_always: bool = False
    """Whether every credit waits until several providers name its block's hash."""
    agreement_from: Mapping[AssetId, int] = field(default_factory=dict)
    """Atomic units from which on credits of an asset wait for that."""
    agreed: Collection[str] = frozenset()
    """Hashes of blocks that enough providers name."""

    def waits_for_finality(self, transfer: ObservedTransfer) -> bool:
        """Whether its asset demands more than the chain's rule, and the block does not meet it yet."""
        return transfer.height > self.final.get(transfer.asset, transfer.height)

    def waits_for_agreement(self, transfer: ObservedTransfer) -> bool:
        """Whether providers must name its block's hash, and not enough of them do."""
        least = 0 if self.agreement_always else self.agreement_from.get(transfer.asset)
        return least is not None and transfer.amount >= least and transfer.block_hash not in self.agreed

    def holds(self, transfer: ObservedTransfer) -> bool:
        """Whether it is not credited yet."""
        return self.waits_for_finality(transfer) or self.waits_for_agreement(transfer)

    @property
    def asks_for_agreement(self) -> bool:
        """Whether any credit can wait for agreement."""
        return self.agreement_always or bool(self.agreement_from)


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalHeight:
    """How far a tenant's books follow a chain: books and chain are compared at this height, in one snapshot of the database."""

    chain: ChainId
    """Which chain."""
    height: int
    """Every block up to here is final, and all that it means for the tenant is booked but what a `Caution` holds back; nothing
    above it is."""
    ingested_height: int
    """The newest block that ingestion has read."""
    ingested_at: datetime
    """The chain's own time of that newest block."""
    updated_at: datetime
    """When ingestion last moved, by the database's clock."""
