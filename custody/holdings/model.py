"""What our accounts hold on chain, by the chain's own state, and how our books compare with it. Frozen values.

A *holding* is an asset that an account of ours holds. Its state is absolute: what the chain says after a block, not a sum of
movements. Stellar tells it in every ledger; on EVM chains it is asked for of the accounts that a block names. A source that
does not tell leaves these tables empty, and nothing is compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import VaultId

Authorization = Literal["full", "maintain", "none"]
"""What the issuer lets an account do with its asset: all, keep what is offered, nothing. Source: CAP-18."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingState:
    """One asset of one account after a block."""

    account: str
    """Holder, as the chain names it."""
    asset: AssetId
    """What is held."""
    exists: bool
    """False when the account or trustline is gone; it then holds nothing."""
    before: int
    """Atomic units held before the block's first change."""
    amount: int
    """Atomic units held after its last."""
    selling: int = 0
    """Of them, atomic units that open offers of the account sell: not to be spent."""
    buying: int = 0
    """Atomic units that its open offers may bring: room that its limit must leave."""
    limit: int | None = None
    """Most atomic units that a trustline may hold; None where there is no such limit."""
    authorization: Authorization = "full"
    """What the issuer allows."""
    clawback: bool = False
    """Whether the issuer may take it back. Source: CAP-35."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSigner:
    """Who may sign for an account, beside its master key."""

    key: str
    """Strkey: G (ed25519), T (pre-authorised transaction), X (hash), P (signed payload). Source: SEP-23."""
    weight: int
    """Counts towards the thresholds; 1 to 255."""
    sponsor: str | None
    """Account that pays its reserve; None for the account itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountState:
    """An account itself after a block. Of a Stellar account that is gone all numbers are zero. Source: CAP-33, CAP-9.

    On EVM chains `sequence` is the nonce, `spendable` the ether, kept of blocks in which it sent something; the rest is zero.
    """

    account: str
    """G address, or an EVM address."""
    exists: bool
    """False after a merge."""
    sequence: int = 0
    """Sequence number of its last transaction. On EVM chains the nonce of its next: how many it has sent."""
    subentries: int = 0
    """Trustlines, offers, signers and data entries that it owns."""
    sponsoring: int = 0
    """Reserves that it pays for others."""
    sponsored: int = 0
    """Reserves of its own that others pay."""
    base_reserve: int = 0
    """Stroops per reserve in this ledger: a network upgrade changes it without touching the account."""
    minimum: int = 0
    """Stroops that must stay: (2 + subentries + sponsoring - sponsored) base reserves."""
    spendable: int = 0
    """Stroops that a payment may take: the balance less the minimum and what offers sell, at least zero."""
    master_weight: int = 0
    """Weight of the account's own key; 0 when it may not sign."""
    low: int = 0
    """Threshold of operations like allow_trust."""
    medium: int = 0
    """Threshold of payments."""
    high: int = 0
    """Threshold of changes to signers and thresholds."""
    flags: int = 0
    """AccountFlags: 1 auth required, 2 revocable, 4 immutable, 8 clawback enabled."""
    home_domain: str = ""
    """Where its stellar.toml is said to lie."""
    sponsor: str | None = None
    """Account that pays its two own reserves; None for itself."""
    signers: tuple[AccountSigner, ...] = ()
    """In the ledger's order: by key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountDatum:
    """A data entry of an account after a block. Only those that custody reads are kept."""

    account: str
    """Whose."""
    name: str
    """Name of the entry: `config.memo_required`. Source: SEP-29."""
    value: bytes | None
    """What it says; None when it was removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainState:
    """What one block left of the accounts that its source asked for: only what the block touched."""

    holdings: tuple[HoldingState, ...] = ()
    """At most one per account and asset."""
    accounts: tuple[AccountState, ...] = ()
    """At most one per account."""
    data: tuple[AccountDatum, ...] = ()
    """At most one per account and name."""
    shows_all: bool = True
    """Whether a block shows everything that it changes. Where not (EVM chains, docs/evm-blocks.md), what lay in an account before
    its first block that we read is not taken for an opening: it may have come unseen."""

    def only(self, account: str) -> ChainState:
        """The same as far as it concerns one account."""
        return ChainState(
            holdings=tuple(each for each in self.holdings if each.account == account),
            accounts=tuple(each for each in self.accounts if each.account == account),
            data=tuple(each for each in self.data if each.account == account),
            shows_all=self.shows_all,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPlace:
    """Which block it was."""

    chain: ChainId
    """Where."""
    height: int
    """Block or ledger."""
    closed_at: datetime
    """The chain's own time of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovementEffect:
    """What one movement of a transaction did to one holding: on chain, and in our books."""

    movement: str
    """`arrival:ORDINAL`, its place within the transaction; `departure`, all that left otherwise than by the fee; `fee`."""
    chain: int
    """Atomic units that the account gained by it, with sign."""
    books: int
    """Atomic units that we book for it once the block is final, with sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionEffect:
    """What one transaction did to one holding: on chain, and in our books."""

    tx_hash: str
    """The name under which the block holds it."""
    chain: int
    """Atomic units that the account gained by it, with sign."""
    books: int
    """Atomic units that we book for it once the block is final, with sign."""
    movements: tuple[MovementEffect, ...] = ()
    """What it consists of, as far as that is known; the sums are those above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a break can be blamed on: the first movement that is booked otherwise than it happened, with both amounts."""

    tx_hash: str
    """The transaction that holds it."""
    movement: str
    """Which of its movements: see `MovementEffect`; `transaction` where only the whole is known."""
    chain: int
    """What it moved on chain, in atomic units with sign."""
    books: int
    """What we book of it, in atomic units with sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchedHolding:
    """A holding that a block touched, with what its transactions did to it."""

    vault_id: VaultId
    """Whose it is."""
    state: HoldingState
    """How the block left it."""
    effects: tuple[TransactionEffect, ...]
    """One per transaction, in the order of the block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptHolding:
    """A holding's newest state at or below some height."""

    vault_id: VaultId
    """Whose it is."""
    state: HoldingState
    """What was read."""
    height: int
    """Block that touched it last, at or below the height asked for."""
    closed_at: datetime
    """The chain's own time of that block."""
    opening: int | None
    """Atomic units that lay there before the first ledger that we read of it, and that no booking explains; None while the
    asset is not listed, and not compared."""
    opening_height: int | None
    """That first ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldAt:
    """What one block found and left of a holding."""

    height: int
    """Which block."""
    before: int
    """Atomic units before it."""
    amount: int
    """Atomic units after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LateBooking:
    """Something that is booked of a block, maybe of one that lies before a holding's opening."""

    vault_id: VaultId
    """Whose books."""
    asset: AssetId
    """What is booked."""
    height: int
    """Block that holds it."""
    amount: int
    """Atomic units that the vault has more by it, with sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHolding:
    """What is kept of a holding beside its states."""

    listed: bool
    """Whether its asset is listed: only then it is compared."""
    kept: bool
    """Whether a block has touched it before."""
    opening_height: int | None
    """The first block that was read of it while its asset was listed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Books and chain of one holding at one final height."""

    vault_id: VaultId
    """Whose it is."""
    asset: AssetId
    """What is compared."""
    height: int
    """Height at which the books stood."""
    state_height: int
    """Block that touched the holding last, at or below it."""
    books: int
    """Posted balance of the vault's account and what its blocks brought that waits to be booked, in atomic units."""
    opening: int
    """What lay there before we read, in atomic units."""
    chain: int
    """What the entries say, in atomic units."""

    @property
    def difference(self) -> int:
        """What the books have too much; below zero, too little. Nothing but zero is right."""
        return self.books + self.opening - self.chain


@dataclass(frozen=True, slots=True, kw_only=True)
class DueHolding:
    """A holding that is to be compared at a final height."""

    vault_id: VaultId
    """Whose it is."""
    asset: AssetId
    """What it is."""
    opening: int
    """What lay there before we read, in atomic units."""
    opening_height: int
    """The first block that was read of it."""
    state_height: int
    """Block that touched it last, at or below that height."""
    amount: int
    """Atomic units that it held from then on."""
    last: Comparison | None
    """How it was compared last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldingBreak:
    """A difference between books and chain, from the height that showed it to the one at which they were equal again."""

    id: UUID
    """Derived from the holding and the height."""
    state: str
    """One of `transitions.HOLDING_BREAKS`."""
    chain: ChainId
    """Where the holding is."""
    opened: Comparison
    """What was compared when it was found."""
    first_height: int
    """First block whose effects differ from what we book of it; where none is known, the first that touched the holding."""
    first: Difference | None
    """The movement in it that differs first; None where no single one explains the difference."""
    difference: int
    """What the books have too much now, in atomic units with sign; 0 once it is closed."""
    opened_at: datetime
    """When it was found."""
    closed_height: int | None
    """Height at which books and chain were equal again."""
    closed_at: datetime | None
    """When that was found."""

    @property
    def first_tx(self) -> str | None:
        """The transaction that holds that movement."""
        return None if self.first is None else self.first.tx_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """Where a chain has left our record below finality."""

    chain: ChainId
    """Which chain."""
    fork_height: int
    """The newest block that our record and the node's chain share."""
    fork_hash: str
    """That block's hash."""
    our_height: int
    """Our newest block."""
    our_hash: str
    """That block's hash."""
    final_height: int
    """Up to where our record was final to some tenant."""
    seen_height: int
    """The node's newest block."""
    seen_hash: str
    """That block's hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainHalt:
    """A chain on which nothing is credited or confirmed until a person has looked: it was reorganised deeper than finality."""

    id: UUID
    """Shown as `hlt_…`."""
    state: str
    """One of `transitions.CHAIN_HALTS`."""
    fork: Fork
    """Where the chain left our record."""
    decided_by: str
    """Subject who decided; empty while nobody did."""
    note: str
    """What that person wrote down."""
    marks_spent: bool
    """Whether credits whose money is gone shall stand, marked as lost."""
    trouble: str
    """Why the decision could not be carried out; empty while it can."""
    opened_at: datetime
    """When it was found."""
    changed_at: datetime
    """When its state last changed."""
