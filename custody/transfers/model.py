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
    fee: Amount | None = None
    """What the payer is charged on top, in the same asset; more than zero. None for no fee."""


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
    """How much the destination got."""
    fee: Amount | None
    """What the source was charged on top."""
    booked_at: datetime
    """When, by the database's clock."""
