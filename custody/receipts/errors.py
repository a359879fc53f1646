"""What can be wrong with an arrival."""

from __future__ import annotations

from custody.kernel.errors import InvariantViolated, NotFound


class UnknownReceipt(NotFound):
    """No such arrival."""

    code = "unknown_receipt"
    public = "No such receipt."


class ReceiptContradicts(InvariantViolated):
    """A bank tells of the same arrival a second time with other content, or in another currency than the account's."""

    code = "receipt_contradicts"
    public = "The bank's report contradicts what is recorded."
