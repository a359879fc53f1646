"""What a block says that custody cares about, the same for every chain: frozen values, produced by the `normalize` modules."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from custody.holdings.model import ChainState
from custody.kernel.assetid import AssetId


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockRef:
    """One block or ledger and its place in the chain."""

    height: int
    hash: str
    """Lower-case hex; 0x on EVM chains, bare on Stellar."""
    parent_hash: str
    """Hash of the block below, in the same spelling."""
    closed_at: datetime
    """The chain's own time of the block, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Movement:
    """Money that arrived at an account."""

    tx_hash: str
    ordinal: int
    """Place within the transaction, the same whenever and wherever the transaction is read again."""
    asset: AssetId
    source: str
    """Where it came from: an account, or another holder of the chain; empty when it was newly issued."""
    account: str
    """Where it went."""
    tag: int | None
    """Muxed id or id memo that names the receiver within the account."""
    memo: str
    """The sender's words where they are no tag (`custody.chains.stellar.memo`): `text:…`, `bytes:…` or `hash:…`; else empty."""
    amount: int
    """Atomic units, more than zero."""
    doubt: str = ""
    """Why a person must decide about it: the code of a notice. Empty where it is believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """Money that left an account otherwise than by its fee: compared with what we sent, to notice what we did not send."""

    tx_hash: str
    asset: AssetId
    account: str
    amount: int
    """Atomic units, more than zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainTransaction:
    """A transaction from the view of one account that sent it or paid its fee."""

    tx_hash: str
    """The name that its sender gave it. Anybody may wrap what is signed on Stellar into a fee bump of another name (CAP-15)."""
    carrier_hash: str
    """The name under which the block holds it: the same, or that of the fee bump around it."""
    account: str
    succeeded: bool
    fee_atomic: int
    """What this account paid for it, in the chain's own currency; zero when somebody else paid."""
    sequence: int
    """Sequence number or nonce of the sender; zero for an account that only paid the fee."""
    outcome: str = ""
    """Why it failed, in the chain's words; empty when it did not, or the source does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discrepancy:
    """A transaction whose reported movements do not add up to what its entries changed by, for one holder and asset."""

    tx_hash: str
    account: str
    asset: str
    """Asset in the chain's own spelling."""
    reported: int
    """Sum of the movements, with sign."""
    changed: int
    """Sum of the entry changes, with sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that a person should see. It stops nothing: what must not be believed is not among the movements."""

    code: str
    """What it is: stable, in snake case."""
    account: str
    """Whose account it concerns; empty where it concerns an asset as such."""
    asset: str
    """Asset or contract that it concerns; empty for none."""
    reported: str
    """What was said: an amount in atomic units, or a name."""
    found: str
    """What was found instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockFacts:
    """What one block says of the accounts that its source asked for."""

    ref: BlockRef
    movements: tuple[Movement, ...] = ()
    departures: tuple[Departure, ...] = ()
    transactions: tuple[ChainTransaction, ...] = ()
    discrepancies: tuple[Discrepancy, ...] = ()
    """Must be empty for our accounts, or nothing of the block is booked."""
    notices: tuple[Notice, ...] = ()
    """For people; nothing is booked by them."""
    state: ChainState = field(default_factory=ChainState)
    """What the block left of these accounts. Empty where the source shows no state: then nothing is compared."""

    def accounts(self) -> frozenset[str]:
        """Every account that the block names: what is compared with our vaults."""
        return frozenset(
            [each.account for each in self.movements]
            + [each.account for each in self.departures]
            + [each.account for each in self.transactions]
            + [each.account for each in self.discrepancies]
            + [each.account for each in self.state.holdings]
            + [each.account for each in self.state.accounts]
            + [each.account for each in self.state.data]
        )

    def only(self, account: str) -> BlockFacts:
        """The same block as far as it concerns one account."""
        return BlockFacts(
            ref=self.ref,
            movements=tuple(each for each in self.movements if each.account == account),
            departures=tuple(each for each in self.departures if each.account == account),
            transactions=tuple(each for each in self.transactions if each.account == account),
            discrepancies=tuple(each for each in self.discrepancies if each.account == account),
            notices=tuple(each for each in self.notices if each.account == account),
            state=self.state.only(account),
        )
