"""What the checker reads, in one form for both chains and for the product's answers. Amounts are atomic units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """One movement of one asset by a transaction that succeeded."""

    tx_hash: str
    asset: str
    """As the API names it: `CHAIN/native`, `CHAIN/CODE:ISSUER`, `CHAIN/erc20:0x…`."""
    source: str
    destination: str
    """The account; on Stellar without its tag."""
    amount: int
    tag: str = ""
    """Who is meant at that account: a muxed id or a memo, in words that can be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """All that happened to our accounts, by a chain's own word."""

    name: str
    height: int
    """Up to which it was read."""
    payments: tuple[Payment, ...]
    """That one of our accounts sent or received."""
    ours: Mapping[str, bool]
    """Every transaction that one of our accounts sent, lent its sequence to or paid for, and whether it succeeded."""
    fees: int
    """What our accounts paid to the network."""
    balances: Mapping[tuple[str, str], int]
    """By account and asset: what the node says that they hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One transaction of a withdrawal, by the API."""

    state: str
    tx_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """One withdrawal, by the API."""

    id: str
    kind: str
    state: str
    asset: str
    amount: int
    destination: str
    memo: tuple[str, str] | None
    stuck: str | None
    attempts: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """One deposit, by the API."""

    id: str
    state: str
    asset: str
    amount: int
    tx_hash: str
    account: str
    wallet: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All that the product says of itself."""

    accounts: Mapping[str, frozenset[str]]
    """By chain: the accounts of its vaults."""
    addresses: Mapping[tuple[str, str], str]
    """By account and tag: whose wallet."""
    owed: Mapping[str, int]
    """By asset: what all wallets own together."""
    held: Mapping[str, int]
    """By asset: what is promised to leave them."""
    withdrawals: tuple[Withdrawal, ...]
    deposits: tuple[Deposit, ...]
    in_cases: Mapping[str, int] = field(default_factory=dict)
    """By asset: what arrived and belongs to nobody yet."""
