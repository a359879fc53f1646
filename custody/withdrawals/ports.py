"""What execution needs from outside. `signing.client.SignerClient` and the chains' clients fulfil it; tests have fakes that pass
the same contract suites.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from custody.chains.ports import ChainClient
from custody.db.session import Database
from custody.kernel.assetid import ChainId
from custody.kernel.clock import Clock
from custody.policy.model import ApprovalPolicy, Decision
from custody.screening.ports import Screener
from custody.settings import Settings
from custody.signing.model import SignedTransaction, SignerHealth, Slot


class Signer(Protocol):
    """The signer as withdrawals see it. Each call returns, raises SignerRefused, or an Unavailable: not known, or not now."""

    async def health(self) -> SignerHealth:
        """Whether it can sign."""
        ...

    async def get_policy(self) -> ApprovalPolicy:
        """The policy that it enforces."""
        ...

    async def sign(self, intent: bytes, decisions: Sequence[Decision], slot: Slot) -> SignedTransaction:
        """The same arguments give the same bytes."""
        ...

    async def void(self, intent: bytes) -> None:
        """Sign it never. Refused when it is signed."""
        ...

    async def approve_batch(
        self, document: bytes, lines: Sequence[bytes], decisions: Sequence[Decision]
    ) -> None:
        """Have decisions about a batch stand for its lines."""
        ...

    async def veto(self, intent: bytes, decisions: Sequence[Decision]) -> None:
        """Make a rejection final."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What a withdrawal is carried out with."""

    db: Database
    """Where the truth is."""
    signer: Signer
    """Holds the keys."""
    clients: Mapping[ChainId, ChainClient]
    """One per configured chain."""
    settings: Settings
    """Validity and limits per chain."""
    clock: Clock
    """For time bounds of transactions."""
    screener: Screener | None = None
    """Whom to ask about receivers beside the tenant's list; None where nobody is configured."""
