"""What our accounts hold on chain by the chain's own state, and how the books compare with it."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

import strawberry

from custody.holdings.model import AccountDatum, AccountState, Comparison, Difference, KeptHolding
from custody.holdings.model import HoldingBreak as BreakModel
from custody.kernel.assetid import ChainId
from custody.kernel.ids import VaultId, show_id

MEMO_REQUIRED = "config.memo_required"
"""The data entry that asks senders for a memo. Source: SEP-29."""


@strawberry.enum
class BreakState(Enum):
    """Whether books and chain still differ."""

    OPEN = "open"
    CLOSED = "closed"


@strawberry.type
class Holding:
    """What one vault holds of one asset since `height`, in atomic units, as the ledger's own entries say. `opening` is what
    lay there before we read it and no booking explains; null while the asset is not listed, and not compared."""

    vault_id: strawberry.ID
    asset: str
    present: bool
    amount: str
    selling: str
    buying: str
    limit: str | None
    authorization: str
    clawback: bool
    opening: str | None
    height: str
    closed_at: datetime


@strawberry.type
class HoldingComparison:
    """Books and chain of one holding at one final height, in atomic units. `difference` is books and opening less chain."""

    height: str
    state_height: str
    books: str
    opening: str
    on_chain: str
    difference: str


@strawberry.type
class BreakMovement:
    """A movement that we book otherwise than it happened, in atomic units with sign. `movement` is `arrival:ORDINAL`,
    `departure`, `fee`, or `transaction` where only the whole is known."""

    tx_hash: str
    movement: str
    on_chain: str
    in_books: str


@strawberry.type
class HoldingBreak:
    """A difference between books and chain. `first`, in the block `firstHeight`, is the first movement that we book otherwise
    than it happened, if one is known; `firstTx` its transaction. A break closes by itself when books and chain are equal again;
    `differenceNow` is then 0."""

    id: strawberry.ID
    state: str
    chain: str
    vault_id: strawberry.ID
    asset: str
    found: HoldingComparison
    first_height: str
    first_tx: str | None
    first: BreakMovement | None
    difference_now: str
    opened_at: datetime
    closed_height: str | None
    closed_at: datetime | None


@strawberry.type
class VaultSigner:
    """Who may sign for a vault's account, beside its own key."""

    key: str
    weight: int
    sponsor: str | None


@strawberry.type
class VaultAccount:
    """A vault's account since `height`, as the chain's own state says. Amounts are strings of stroops, or of wei. On EVM chains
    only `sequence`, the nonce, and `spendable` say anything."""

    height: str
    present: bool
    sequence: str
    subentries: int
    sponsoring: int
    sponsored: int
    minimum: str
    spendable: str
    master_weight: int
    low_threshold: int
    medium_threshold: int
    high_threshold: int
    flags: int
    home_domain: str
    sponsor: str | None
    signers: list[VaultSigner]
    memo_required: bool


def show_holding(kept: KeptHolding) -> Holding:
    """One holding."""
    state = kept.state
    return Holding(
        vault_id=_vault(kept.vault_id),
        asset=state.asset.text,
        present=state.exists,
        amount=str(state.amount),
        selling=str(state.selling),
        buying=str(state.buying),
        limit=None if state.limit is None else str(state.limit),
        authorization=state.authorization,
        clawback=state.clawback,
        opening=None if kept.opening is None else str(kept.opening),
        height=str(kept.height),
        closed_at=kept.closed_at,
    )


def show_comparison(compared: Comparison) -> HoldingComparison:
    """One comparison."""
    return HoldingComparison(
        height=str(compared.height),
        state_height=str(compared.state_height),
        books=str(compared.books),
        opening=str(compared.opening),
        on_chain=str(compared.chain),
        difference=str(compared.difference),
    )


def show_holding_break(found: BreakModel) -> HoldingBreak:
    """One break."""
    return HoldingBreak(
        id=strawberry.ID(show_id("brk", found.id)),
        state=found.state,
        chain=ChainId(found.chain),
        vault_id=_vault(found.opened.vault_id),
        asset=found.opened.asset.text,
        found=show_comparison(found.opened),
        first_height=str(found.first_height),
        first_tx=found.first_tx,
        first=None if found.first is None else _movement(found.first),
        difference_now=str(found.difference),
        opened_at=found.opened_at,
        closed_height=None if found.closed_height is None else str(found.closed_height),
        closed_at=found.closed_at,
    )


def show_vault_account(height: int, state: AccountState, memo: AccountDatum | None) -> VaultAccount:
    """One account."""
    return VaultAccount(
        height=str(height),
        present=state.exists,
        sequence=str(state.sequence),
        subentries=state.subentries,
        sponsoring=state.sponsoring,
        sponsored=state.sponsored,
        minimum=str(state.minimum),
        spendable=str(state.spendable),
        master_weight=state.master_weight,
        low_threshold=state.low,
        medium_threshold=state.medium,
        high_threshold=state.high,
        flags=state.flags,
        home_domain=state.home_domain,
        sponsor=state.sponsor,
        signers=[
            VaultSigner(key=each.key, weight=each.weight, sponsor=each.sponsor) for each in state.signers
        ],
        memo_required=memo is not None and memo.value == b"1",
    )


def _movement(found: Difference) -> BreakMovement:
    return BreakMovement(
        tx_hash=found.tx_hash, movement=found.movement, on_chain=str(found.chain), in_books=str(found.books)
    )


def _vault(vault_id: VaultId) -> strawberry.ID:
    return strawberry.ID(show_id("vlt", vault_id))
