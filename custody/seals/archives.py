"""What an archived month adds up to: months, and the sums of a month's transfers per account. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from uuid import UUID

from custody.seals.errors import ArchiveDiffers
from custody.seals.model import Opening, TransferRow

NOTHING = Opening(version=0, debits_posted=0, credits_posted=0, debits_pending=0, credits_pending=0)
"""An account before its first entry."""
Openings = Mapping[UUID, Opening]


def month_of(moment: datetime) -> date:
    """The first day of the month, UTC, that a moment lies in: where its partition begins."""
    return moment.astimezone(UTC).date().replace(day=1)


def month_after(month: date) -> date:
    """The first day of the month after."""
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


def begin_of(month: date) -> datetime:
    """The first moment of a month."""
    return datetime(month.year, month.month, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthSums:
    """A month's transfers as an archive's files have them."""

    batches: int = 0
    """How many batches they are of."""
    transfers: int = 0
    """How many there are."""
    dated_to: datetime | None = None
    """The latest value date that is not the time of booking."""
    accounts: Openings = field(default_factory=dict)
    """What the month adds to each account; `version` counts its entries."""


def sum_month(rows: Iterable[TransferRow]) -> MonthSums:
    """Add up transfers of one month."""
    batches: set[int] = set()
    accounts: dict[UUID, Opening] = {}
    transfers, dated_to = 0, None
    for row in rows:
        batches.add(row["batch_id"])
        transfers += 1
        if row["effective_at"] != row["booked_at"]:
            dated_to = max(row["effective_at"], dated_to or row["effective_at"])
        posted, pending = row["posted"], row["pending"]
        debit, credit = UUID(row["debit_account"]), UUID(row["credit_account"])
        accounts[debit] = _add(
            accounts.get(debit, NOTHING),
            Opening(
                version=1, debits_posted=posted, credits_posted=0, debits_pending=pending, credits_pending=0
            ),
        )
        accounts[credit] = _add(
            accounts.get(credit, NOTHING),
            Opening(
                version=1, debits_posted=0, credits_posted=posted, debits_pending=0, credits_pending=pending
            ),
        )
    return MonthSums(batches=len(batches), transfers=transfers, dated_to=dated_to, accounts=accounts)


def carry(before: Openings, month: Openings) -> dict[UUID, Opening]:
    """The openings after a month, of the accounts that moved in it."""
    return {account: _add(before.get(account, NOTHING), moved) for account, moved in month.items()}


def demand_equal(tenant: int, month: date, recorded: Openings, derived: Openings) -> None:
    """Raises ArchiveDiffers, naming the first account whose recorded opening does not follow from the files."""
    for account in sorted(recorded.keys() | derived.keys()):
        if recorded.get(account) != derived.get(account):
            raise ArchiveDiffers(
                "an account's opening does not follow from the files",
                tenant=tenant,
                month=month.isoformat(),
                account=account,
            )


def _add(one: Opening, other: Opening) -> Opening:
    return Opening(
        version=one.version + other.version,
        debits_posted=one.debits_posted + other.debits_posted,
        credits_posted=one.credits_posted + other.credits_posted,
        debits_pending=one.debits_pending + other.debits_pending,
        credits_pending=one.credits_pending + other.credits_pending,
    )
