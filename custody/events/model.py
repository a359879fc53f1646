"""Events: facts in the past tense that others may react to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from custody.kernel.ids import EventId, TenantId, WalletId

WALLETS = ("wallet_id", "source_wallet_id", "destination_wallet_id")
"""Fields of events' data that name the wallets that an event is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the outbox, or what a customer is told of it."""

    tenant: TenantId
    """Whose event it is."""
    id: EventId
    """Version 7, but order is by `sequence`."""
    sequence: int
    """Grows with every event of the installation; gaps are possible, order per object is not lost."""
    position: int
    """1, 2, 3 … of the feed that it was read from, the tenant's or a customer's, given in the order of relaying: whoever has read
    up to one has missed nothing before it."""
    type: str
    """A name of `events.catalog`, such as `withdrawal.settled`."""
    object_id: UUID
    """What it is about."""
    data: dict[str, object]
    """A whole snapshot of what changed, in JSON values."""
    occurred_at: datetime
    """When it was written."""
    trace_id: str | None
    """Correlation id of the request or job that caused it."""

    @property
    def wallets(self) -> list[WalletId]:
        """The wallets that it names, each once."""
        named = [self.data.get(name) for name in WALLETS]
        return list(dict.fromkeys(WalletId(UUID(each)) for each in named if isinstance(each, str)))
