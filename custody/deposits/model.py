"""Deposits: what arrived from outside at one of our vaults, and what became of it. Frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import DepositId, VaultId, WalletId
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
    """The sender's words where they are no tag (`text:…`, `hash:…`): for the person who looks at suspense."""
    amount: int
    """Atomic units, more than zero."""
    occurred_at: datetime
    """The block's own time."""


class Observation(StrEnum):
    """What recording an arrival came to."""

    RECORDED = "recorded"
    """New, or back again after a reorganisation."""
    KNOWN = "known"
    """Recorded before; nothing was changed."""
    UNLISTED = "unlisted"
    """The asset is not listed: nobody is credited, nothing is kept."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """What a final height decides about deposits, before it is posted."""

    deposits: tuple[Deposit, ...]
    """In the state and with the wallet that they will have."""
    commands: tuple[Command, ...]
    """What the ledger is to post for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalHeight:
    """How far a tenant's books follow a chain: books and chain are compared at this height, in one snapshot of the database."""

    chain: ChainId
    """Which chain."""
    height: int
    """Every block up to here is final, and all that it means for the tenant is booked; nothing above it is."""
    ingested_height: int
    """The newest block that ingestion has read."""
    ingested_at: datetime
    """The chain's own time of that newest block."""
    updated_at: datetime
    """When ingestion last moved, by the database's clock."""
