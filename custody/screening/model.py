"""What is asked about a receiver before anybody is asked to pay it, and what is said: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import WithdrawalId

LIST = "list"
"""Name of the built-in screener, which knows the tenant's own list."""


class Finding(StrEnum):
    """How a screening ends."""

    CLEAR = "clear"
    """Nothing is known against the receiver."""
    HIT = "hit"
    """Nobody here may pay it."""
    UNKNOWN = "unknown"
    """No answer, or none that says either: asked about again under the same reference. Never taken for one of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One receiver, as it is asked about."""

    reference: UUID
    """Ours, the same each time this is asked: a screener that has answered it answers the same."""
    chain: ChainId
    """Where it is to be paid."""
    account: str
    """The account on chain, without tag or memo."""
    asset: AssetId
    """What it is to get."""
    amount: int
    """Atomic units of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a screener says."""

    finding: Finding
    """The answer."""
    detail: str
    """The screener's words or reference for examiners; why nothing is known, for UNKNOWN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An answer as it is kept."""

    withdrawal_id: WithdrawalId
    """For which payment it was asked."""
    screener: str
    """Who said it: `list`, or the outside screener's configured name."""
    reference: UUID
    """The question's."""
    finding: Finding
    """What was said."""
    detail: str
    """In the screener's words."""
    list_version: int | None
    """Which rows of the tenant's list were known: its highest sequence, 0 for an empty one. None of an outside screener."""
    created_at: datetime
    """When it was said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListEntry:
    """One row of the tenant's list of refused addresses. The last row about an account is in force."""

    sequence: int
    """Its place in the list; also the list's version from then on."""
    namespace: str
    """Kind of chain: `stellar`, `eip155`. One key is one account on all chains of a kind."""
    account: str
    """The account, without tag or memo."""
    word: str
    """`refused`, or `withdrawn` where that no longer holds."""
    source: str
    """Whose list it is from, with its date."""
    note: str
    """Why, in the operator's words."""
    actor: str
    """Who wrote it."""
    created_at: datetime
    """When."""
