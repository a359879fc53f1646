"""Every event there is, with who wakes up for it.

The name is `object.fact`. A name that is not listed cannot be emitted. A job is named where the fact leaves work for the
worker: a wake-up only, since the sweeper finds the same work by itself.
"""

from __future__ import annotations

from collections.abc import Mapping

EVENTS: dict[str, str | None] = {
    "deposit.observed": None,
    "deposit.credited": None,
    "deposit.suspended": None,
    "deposit.unlisted": None,
    "deposit.returned": None,
    "deposit.orphaned": None,
    "deposit.reversed": None,
    "deposit.lost": None,
    "deposit.found_again": None,
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
    "adjustment.proposed": None,
    "adjustment.posted": None,
    "adjustment.rejected": None,
    "adjustment.withdrawn": None,
    "exchange.reversed": None,
    "withdrawal.requested": None,
    "withdrawal.screening": None,
    "withdrawal.awaiting_approval": None,
    "withdrawal.blocked": None,
    "withdrawal.decided": None,
    "withdrawal.approved": "advance_withdrawal",
    "withdrawal.cooling_down": None,
    "withdrawal.rejected": None,
    "withdrawal.expired": None,
    "withdrawal.cancelled": None,
    "withdrawal.signing": None,
    "withdrawal.broadcasting": "advance_withdrawal",
    "withdrawal.confirming": None,
    "withdrawal.settled": None,
    "withdrawal.failed": None,
    "withdrawal.stuck": None,
    "address_entry.proposed": None,
    "address_entry.confirmed": None,
    "address_entry.removed": None,
    "address_restriction.set": None,
    "withdrawal_batch.requested": None,
    "withdrawal_batch.decided": None,
    "withdrawal_batch.cancelled": None,
    "vault.unknown_transaction": None,
    "sweep_rule.set": None,
    "vault_target.set": None,
    "holding.break_opened": None,
    "holding.break_changed": None,
    "holding.break_closed": None,
    "stop_rule.set": None,
    "tariff.set": None,
    "withdrawal_quote.given": None,
    "chain.halted": None,
    "chain.follow_decided": None,
    "chain.kept": None,
    "chain.resumed": None,
    "chain.returned": None,
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
    "switch.stopped": None,
    "switch.resume_proposed": None,
    "switch.resumed": None,
    "webhook_endpoint.disabled": None,
    "webhook_delivery.exhausted": None,
    "access.granted": None,
    "access.rotated": None,
    "access.changed": None,
    "access.revoked": None,
}
"""Event name to the job it wakes, or None."""

_BY_NAME = (
    "deposit.observed", "deposit.credited", "deposit.suspended", "deposit.unlisted", "deposit.returned",
    "deposit.orphaned", "deposit.reversed", "deposit.lost", "deposit.found_again", "transfer.posted",
    "withdrawal.requested", "withdrawal.screening", "withdrawal.awaiting_approval", "withdrawal.blocked",
    "withdrawal.approved", "withdrawal.cooling_down", "withdrawal.rejected", "withdrawal.expired", "withdrawal.cancelled",
    "withdrawal.signing", "withdrawal.broadcasting", "withdrawal.confirming", "withdrawal.settled", "withdrawal.failed",
    "withdrawal.stuck",
)  # fmt: skip
_BY_ITS_ENTRY = (
    "payout.ready", "payout.settled", "payout.returned", "payout.rejected", "payout.cancelled", "receipt.credited",
    "exchange.posted", "exchange.reversed", "adjustment.posted",
)  # fmt: skip
TOLD_TO_CUSTOMERS: Mapping[str, str] = dict(zip(_BY_NAME, _BY_NAME, strict=True)) | dict.fromkeys(
    _BY_ITS_ENTRY, "ledger.posted"
)
"""Events of which the customers are told whose wallets they name, and as what: by its name where a customer may read its object;
as an entry of the books where the entry in the statement is all that a customer sees of it. An event that is not here, such as
one that comes later, is told to no customer."""
