"""A transfer between two wallets of one tenant: asked for, and as it was booked; and many of them in one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

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


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkTransfer:
    """One of many transfers."""

    wanted: RequestTransfer
    """What is to move."""
    group: str | None
    """The caller's name of a group that moves together or not at all. None for a transfer by itself."""


BulkState = Literal["posted", "refused", "waiting"]
"""Where one of many transfers stands. The first two are for good; one that waits is posted by the same request again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAnswer:
    """What became of one of many transfers."""

    id: TransferId
    """Of the transfer."""
    state: BulkState
    """Whether it was posted."""
    code: str | None
    """Why it was refused, or why it waits: `chain_refused` means that another transfer of its group was refused,
    `stopped_by_switch` that a kill switch stands in the way of it or its group. None for what was posted, and for what waits only
    because its request was cut off."""
    booked_at: datetime | None
    """When it was booked, by the database's clock; None while it is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """Many transfers that were accepted as one request."""

    id: UUID
    """Shown as `blk_…`."""
    transfers: Sequence[BulkTransfer]
    """In the order of the request."""
    requested_by: str
    """Subject of the principal."""
    created_at: datetime
    """When it was accepted."""
