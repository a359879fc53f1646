"""What withdrawals refuse."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, InvariantViolated, NotFound, Refused, Unavailable


class UnknownWithdrawal(NotFound):
    """No such withdrawal of this tenant."""

    code = "unknown_withdrawal"
    public = "No such withdrawal."


class WithdrawalExistsDifferent(Conflict):
    """The id is taken by a withdrawal of other content."""

    code = "withdrawal_exists_different"
    public = "A withdrawal with this id exists and differs."


class DecisionTooLate(Conflict):
    """The withdrawal is past the point where decisions matter."""

    code = "decision_too_late"
    public = "The withdrawal can no longer be decided about."


class CancelTooLate(Conflict):
    """A key may have been touched, or the withdrawal has ended."""

    code = "cancel_too_late"
    public = "The withdrawal can no longer be cancelled."


class UnsupportedAsset(InvalidInput):
    """The asset does not live on a chain that is configured here."""

    code = "unsupported_asset"
    public = "Withdrawals of this asset are not supported."


class MemoNotAllowed(InvalidInput):
    """The chain knows no memo, or the address already carries the receiver's tag."""

    code = "memo_not_allowed"
    public = "This destination does not take a memo."


class InvalidMemo(InvalidInput):
    """The memo's value does not fit its type."""

    code = "invalid_memo"
    public = "The memo is not valid for its type."


class DestinationIsOurs(Refused):
    """The address belongs to one of this tenant's vaults; moving money there is an internal transfer."""

    code = "destination_is_ours"
    public = "The destination is one of your own vaults; use a transfer."


class NotVoided(Unavailable):
    """It was approved in this moment, and the signer has not been told yet. The same command again tells it."""

    code = "not_voided"
    public = "The withdrawal was approved just now. Repeat the call with the same key."


class UnknownBatch(NotFound):
    """No such batch of this tenant."""

    code = "unknown_batch"
    public = "No such batch."


class BatchExistsDifferent(Conflict):
    """The id was used for a batch of other lines."""

    code = "batch_exists_different"
    public = "The id was already used for another batch. Use a new id."


class BadBatchSize(InvalidInput):
    """A batch has from one line up to as many as approvers can be shown and the signer takes at once."""

    code = "bad_batch_size"
    public = "A batch has 1 to 100 lines."


class LineOfBatch(Conflict):
    """The withdrawal is a line of a batch; it is approved with the batch or not at all."""

    code = "line_of_batch"
    public = "This is a line of a batch. Approve the batch."


class NotATrustline(InvalidInput):
    """Only credit assets of a Stellar network have trustlines, and not of the vault's own issue."""

    code = "not_a_trustline"
    public = "A trustline needs a Stellar vault and a credit asset of the same network."


class NotPooled(InvalidInput):
    """Only an account that many wallets share needs a memo to tell whose money arrives."""

    code = "not_pooled"
    public = "Only an omnibus vault asks its senders for a memo."


class NonceNotPending(Conflict):
    """No transaction of this withdrawal waits for a block on a nonce that a cancel could take; or a cancel waits already."""

    code = "nonce_not_pending"
    public = "The withdrawal has no transaction whose nonce could be cancelled now."


class NotOvertaken(Conflict):
    """No final transaction of that hash, unknown to us, has used the nonce of this withdrawal."""

    code = "not_overtaken"
    public = "That transaction did not use this withdrawal's nonce, or is not final, or is not known to be a stranger's."


class ChainBehind(Unavailable):
    """Our own ingestion has not reached the chain's present; a reservation now could not be bounded."""

    code = "chain_behind"


class SlotContested(InvariantViolated):
    """The signer has bound this intent to another sequence or nonce than ours: our rows were lost or rolled back."""

    code = "slot_contested"


class FeeOverCap(Unavailable):
    """The chain's present price is above what the intent allows; wait until it falls or the intent expires."""

    code = "fee_over_cap"


class DestinationMissing(Refused):
    """The account is not on chain, and opening it is not possible for this payment or not allowed by the policy."""

    code = "destination_missing"
    public = "The destination account does not exist."


class BelowReserve(Refused):
    """The payment would open the account and is smaller than what an account must hold."""

    code = "below_reserve"
    public = "A new account needs at least its reserve."


class TrustlineMissing(Refused):
    """The receiver has no trustline for the asset: the network would refuse the payment."""

    code = "trustline_missing"
    public = "The destination does not accept this asset."


class TrustlineUnauthorized(Refused):
    """The issuer does not let the receiver hold the asset."""

    code = "trustline_unauthorized"
    public = "The issuer has not authorised the destination for this asset."


class DestinationFull(Refused):
    """The payment is larger than what the receiver's trustline or account can still take."""

    code = "destination_full"
    public = "The destination cannot take this much."


class MemoRequired(Refused):
    """The receiver asks its senders for a memo. Source: SEP-29."""

    code = "memo_required"
    public = "The destination requires a memo."


class NotRefillable(InvalidInput):
    """Only channels and the account that pays for fee bumps are filled by the system."""

    code = "not_refillable"
    public = "This vault is not filled by the system."


class DecisionTooEarly(Conflict):
    """The receiver is still being looked into; approvers are asked afterwards."""

    code = "decision_too_early"
    public = "The withdrawal is still being screened; decide when it awaits approval."


class WindowTooShort(InvalidInput):
    """The intent's window closes before the schedule or the cool-down lets it be carried out."""

    code = "window_too_short"
    public = "The window closes before the withdrawal could be carried out."


class BadCoolDownRule(InvalidInput):
    """A cool-down is 0 seconds to a year; a rule for every asset has no threshold; a note has up to 500 characters."""

    code = "bad_cool_down_rule"
    public = "The cool-down rule is not valid."
