"""Addresses that vaults and wallets may be restricted to: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from custody.kernel.assetid import ChainId

Scope = Literal["vault", "wallet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Whom an entry is about: exactly this address with exactly this memo."""

    chain: ChainId
    """Where."""
    address: str
    """The canonical spelling: M…, G… or EIP-55."""
    memo_type: str
    """`none`, `id`, `text` or `hash`."""
    memo: str
    """Empty for `none`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the book, with all that was said about it."""

    id: UUID
    """Our id."""
    sequence: int
    """Order of the proposals."""
    receiver: Receiver
    """Whom it is about."""
    label: str
    """Whose address it is, in the proposer's words."""
    state: str
    """One of `transitions.ENTRIES`."""
    proposed_by: str
    """Subject of who proposed it."""
    confirmed_by: str | None
    """Subject of who confirmed it: somebody else."""
    removed_by: str | None
    """Subject of who removed it."""
    counts_from: datetime | None
    """From when on it is paid to, once it is confirmed."""
    created_at: datetime
    """When it was proposed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """Whether a vault or a wallet pays to entries only. The last row that counts already is in force."""

    sequence: int
    """Order of the rows."""
    scope: Scope
    """Of what."""
    object_id: UUID
    """Which vault or wallet."""
    enabled: bool
    """Whether it pays to entries only."""
    counts_from: datetime
    """At once for a restriction; after the configured wait where one is lifted."""
    actor: str
    """Who said so."""
    created_at: datetime
    """When."""
