"""Refusals and broken invariants of deposits and of vaults that receive them."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, InvariantViolated, NotFound


class UnknownDeposit(NotFound):
    """No such deposit of this tenant."""

    code = "unknown_deposit"
    public = "No such deposit."


class DepositExistsDifferent(InvariantViolated):
    """The same transaction and ordinal were seen with another content: the chain or the reader contradicts itself."""

    code = "deposit_exists_different"
    public = "A deposit was observed twice with different content."


class UnknownCase(NotFound):
    """No such case of this tenant."""

    code = "unknown_case"
    public = "No such case."


class CaseDecided(Conflict):
    """The case has ended, or its money is on its way back."""

    code = "case_decided"
    public = "This case has been decided about otherwise, or has ended."


class CaseNotBooked(Conflict):
    """The asset is not listed, so that nothing of it is in the books to be moved."""

    code = "case_not_booked"
    public = "The asset is not listed: list it, and the deposit is decided about anew."


class CaseHoldsMoney(Conflict):
    """The deposit's money is in suspense: it belongs to somebody, and is assigned or returned."""

    code = "case_holds_money"
    public = "A case with money in suspense cannot be dismissed; assign it or return it."


class BadNote(InvalidInput):
    """A note is too long or has control characters."""

    code = "bad_note"
    public = "A note has at most 500 printable characters."


class RequestExistsDifferent(Conflict):
    """The request id was used for another vault or address."""

    code = "vault_request_exists_different"
    public = "This request id was already used for something else."


class KeyNotOurs(InvariantViolated):
    """The account that the signer names does not belong to the public key that it names."""

    code = "key_account_mismatch"
    public = "The signer's key and its account do not fit together."


class CreditSpent(InvariantViolated):
    """A reorganisation below finality takes back money that its wallet has already used: only a person can settle it."""

    code = "deposit_credit_spent"
    public = "A deposit was reversed by its chain after the money was used."
