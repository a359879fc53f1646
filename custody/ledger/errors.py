"""Refusals of the ledger as errors. Each names one ResultCode and says what the caller can do."""

from __future__ import annotations

from custody.assets.errors import UnknownAsset
from custody.kernel.errors import Conflict, InvalidInput, InvariantViolated, NotFound, Refused, Unavailable
from custody.kernel.money import AmountNotPositive, AmountTooLarge


class InsufficientFunds(Refused):
    """Less is available than is asked for. `account` says whose: a wallet's, or a vault's or bank's that would have to pay."""

    code = "insufficient_funds"
    public = "The available balance does not cover the amount. Fund the wallet or ask for less."


class ExceedsCeiling(Refused):
    """The account's balance with what may still come in would be above its ceiling. `account` says which."""

    code = "exceeds_ceiling"
    public = "The account may not hold that much. Send less, or use another account."


class LimitsExcludeZero(InvalidInput):
    """A new account has nothing in it, so its floor is at most zero and its ceiling at least zero; neither beyond a uint256."""

    code = "limits_exclude_zero"
    public = "The floor must be zero or less and the ceiling zero or more."


class AccountExistsDifferent(Conflict):
    """The account was opened with other limits, which do not change."""

    code = "account_exists_different"
    public = "The account exists with another floor or ceiling."


class AccountClosed(Refused):
    """A closed account takes part in nothing."""

    code = "account_closed"
    public = "The account is closed. Use another account."


class AccountFrozen(Refused):
    """No new money leaves a frozen account."""

    code = "account_frozen"
    public = "The account is frozen. Ask an operator."


class AccountNotFrozen(Conflict):
    """There is nothing to thaw."""

    code = "account_not_frozen"
    public = "The account is not frozen."


class AccountNotEmpty(Conflict):
    """Only an account without balance and holds can be closed."""

    code = "account_not_empty"
    public = "The account still has a balance or holds. Empty it first."


class UnknownAccount(NotFound):
    """The account was never opened."""

    code = "unknown_account"
    public = "No such account. Open it first."


class SameAccount(InvalidInput):
    """Debit and credit are one account."""

    code = "same_account"
    public = "Source and destination are the same account."


class AccountsOfDifferentAssets(InvalidInput):
    """Debit and credit account hold different assets."""

    code = "asset_mismatch"
    public = "The two accounts hold different assets."


class TransferExistsDifferent(Conflict):
    """The id was used for another command."""

    code = "transfer_exists_different"
    public = "The id was already used for something else. Use a new id."


class HoldNotFound(NotFound):
    """No such hold."""

    code = "hold_not_found"
    public = "No such hold."


class HoldNotOpen(Conflict):
    """The hold is wholly posted, voided or expired."""

    code = "hold_not_open"
    public = "The hold has ended: it was posted, voided or has expired."


class HoldExceeded(Refused):
    """More is posted than remains held."""

    code = "hold_exceeded"
    public = "The amount is more than what remains held. Post at most the rest."


class HoldNotDue(Conflict):
    """The hold has not reached its time, or has none."""

    code = "hold_not_due"
    public = "The hold has not reached its time."


class TransferNotFound(NotFound):
    """No such transfer."""

    code = "transfer_not_found"
    public = "No such transfer."


class TransferArchived(Conflict):
    """The transfer's month has been archived."""

    code = "transfer_archived"
    public = "The transfer has been archived and cannot be reversed; book a new transfer the other way."


class HistoryArchived(Refused):
    """The question is about entries that have been archived. `until` or `first_version` says from where on it can be asked."""

    code = "history_archived"
    public = "That part of the history has been archived. Ask about a later time, or read the archive."


class NotReversible(Conflict):
    """Only transfers and posted holds have a mirror."""

    code = "not_reversible"
    public = "Only a transfer or a posted hold can be reversed."


class AlreadyReversed(Conflict):
    """The mirror is booked already."""

    code = "already_reversed"
    public = "The transfer was already reversed."


class ChainRefused(Refused):
    """The command was part of a chain that was refused, and is given again without the others."""

    code = "chain_refused"
    public = "Another command of the same chain was refused. Send the chain again under new ids."


class LedgerBusy(Unavailable):
    """Two transactions waited for each other's accounts, and this one was chosen to give way. It must be rolled back.

    One call to the ledger locks in a fixed order and cannot cause it; transactions that post several times can."""

    code = "ledger_busy"
    public = "The accounts are in use; repeat the call with the same key."


class PostingFailed(InvariantViolated):
    """The posting function raised instead of answering: a bug of ours, or a database that is not ours. Nothing was done."""

    code = "posting_failed"


class LedgerOverloaded(Unavailable):
    """The queue of postings is full. Nothing of this request was queued."""

    code = "ledger_overloaded"
    public = "Too many postings are waiting; repeat the call with the same key in a moment."


class LedgerStopping(Unavailable):
    """The process is about to end and takes no more postings. Nothing of this request was queued."""

    code = "ledger_stopping"
    public = "The service is restarting; repeat the call with the same key in a moment."


class LedgerOutcomeUnknown(Unavailable):
    """The process stopped before the answer came. The same ids, given again, learn what became of them and do nothing twice."""

    code = "ledger_outcome_unknown"
    public = "The outcome is not known yet; repeat the call with the same key."


REFUSALS = (
    InsufficientFunds,
    ExceedsCeiling,
    AccountExistsDifferent,
    AccountClosed,
    AccountFrozen,
    AccountNotFrozen,
    AccountNotEmpty,
    UnknownAccount,
    UnknownAsset,
    SameAccount,
    AccountsOfDifferentAssets,
    TransferExistsDifferent,
    HoldNotFound,
    HoldNotOpen,
    HoldExceeded,
    HoldNotDue,
    TransferNotFound,
    TransferArchived,
    NotReversible,
    AlreadyReversed,
    ChainRefused,
    AmountNotPositive,
    AmountTooLarge,
)
"""Every error that `service.post` raises for a refusal; the class whose `code` is the ResultCode."""
