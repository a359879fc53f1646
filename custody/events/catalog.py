"""Every event there is, with who wakes up for it.

The name is `object.fact`. A name that is not listed cannot be emitted. A job is named where the fact leaves work for the
worker: a wake-up only, since the sweeper finds the same work by itself.
"""

from __future__ import annotations

EVENTS: dict[str, str | None] = {
    "deposit.observed": None,
    "deposit.credited": None,
    "deposit.suspended": None,
    "deposit.unlisted": None,
    "deposit.returned": None,
    "deposit.orphaned": None,
    "deposit.reversed": None,
    "case.opened": None,
    "case.ignored": None,
    "case.assigned": None,
    "case.returning": None,
    "case.reopened": None,
    "case.returned": None,
    "case.dismissed": None,
    "case.listed": None,
    "case.orphaned": None,
    "ledger.posted": None,
    "transfer.posted": None,
    "exchange.posted": None,
    "exchange.reversed": None,
    "withdrawal.requested": None,
    "withdrawal.decided": None,
    "withdrawal.approved": "advance_withdrawal",
    "withdrawal.rejected": None,
    "withdrawal.expired": None,
    "withdrawal.cancelled": None,
    "withdrawal.signing": None,
    "withdrawal.broadcasting": "advance_withdrawal",
    "withdrawal.confirming": None,
    "withdrawal.settled": None,
    "withdrawal.failed": None,
    "withdrawal.stuck": None,
    "vault.unknown_transaction": None,
    "holding.break_opened": None,
    "holding.break_closed": None,
    "payout.ready": None,
    "payout.submitting": None,
    "payout.submitted": None,
    "payout.unknown": None,
    "payout.settled": None,
    "payout.returned": None,
    "payout.rejected": None,
    "payout.cancelled": None,
    "payout.integrity_failed": None,
    "payout.contradicted": None,
    "receipt.credited": None,
    "receipt.suspended": None,
    "recon.break_found": None,
}
"""Event name to the job it wakes, or None."""
