"""A transfer between two wallets of one tenant: asked for, and as it was booked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from custody.kernel.ids import TransferId, WalletId
from custody.kernel.money import Amount


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTransfer:
    """What a caller wants moved. Idempotent by `id`."""

    id: TransferId
    """Chosen by the edge; also the ledger's id of it."""
    source_wallet_id: WalletId
    """Who pays."""
    destination_wallet_id: WalletId
    """Who is paid."""
    amount: Amount
    """How much; more than zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletTransfer:
    """A transfer that was booked. It is final: a mistake is another transfer."""

    id: TransferId
    """Shown as `trf_…`."""
    source_wallet_id: WalletId
    """Who paid."""
    destination_wallet_id: WalletId
    """Who was paid."""
    amount: Amount
    """How much."""
    booked_at: datetime
    """When, by the database's clock."""
