"""The legal moves of a withdrawal, of its attempts, and of transactions that none of them explains, as data.

A withdrawal is what was asked for; an attempt is one transaction with one sequence or nonce. Once a key may have been touched
(`signing`), no move leads back, none cancels, and the hold is released only with proof that nothing was or can be paid.
"""

from __future__ import annotations

from custody.kernel.transitions import Transition, TransitionTable

WITHDRAWALS = TransitionTable(
    "withdrawal",
    "requested",
    (
        # It pays somebody outside: the money is held, and the receiver is looked into.
        Transition("requested", "screen", "screening"),
        # An operation of a vault on itself, or between vaults of ours: there is no receiver outside who could be looked into.
        Transition("requested", "exempt", "awaiting_approval"),
        # The tenant's list does not name the receiver, and the outside screener, where there is one, has nothing against it.
        Transition("screening", "clear", "awaiting_approval"),
        # The tenant's list names the receiver, or the outside screener does: the hold is released.
        Transition("screening", "block", "blocked"),
        # The policy's quorum has signed the digest.
        Transition("awaiting_approval", "approve", "approved"),
        # A cool-down or a schedule says that it is not carried out yet.
        Transition("approved", "cool", "cooling_down"),
        # The list is looked at once more before a slot is reserved: it names the receiver now.
        Transition("approved", "block", "blocked"),
        # The same after a cool-down.
        Transition("cooling_down", "block", "blocked"),
        # One approver's veto is enough.
        Transition("awaiting_approval", "reject", "rejected"),
        # A veto still counts after the quorum, until a key is touched.
        Transition("approved", "reject", "rejected"),
        # That is what the cool-down is for.
        Transition("cooling_down", "reject", "rejected"),
        # The intent's window has closed before the request was screened.
        Transition("requested", "expire", "expired"),
        # Nobody knew about the receiver until the window closed.
        Transition("screening", "expire", "expired"),
        # The intent's window has closed before the quorum was there.
        Transition("awaiting_approval", "expire", "expired"),
        # The quorum was there, but the window closed before a slot could be reserved.
        Transition("approved", "expire", "expired"),
        # The same after a cool-down: its sender was busy until the window closed.
        Transition("cooling_down", "expire", "expired"),
        # The requester takes it back.
        Transition("requested", "cancel", "cancelled"),
        # While the receiver is looked into: what the screener still says is not listened to.
        Transition("screening", "cancel", "cancelled"),
        # While approvers think.
        Transition("awaiting_approval", "cancel", "cancelled"),
        # Still possible: no slot is reserved, so nothing was sent to the signer.
        Transition("approved", "cancel", "cancelled"),
        # The same during a cool-down or before a scheduled time.
        Transition("cooling_down", "cancel", "cancelled"),
        # A sequence or nonce is reserved in a committed row; from here on the key may be touched at any moment.
        Transition("approved", "reserve", "signing"),
        # The wait is over: the same from there, without a way back.
        Transition("cooling_down", "reserve", "signing"),
        # The signed bytes are stored; they may now be sent, and be sent again.
        Transition("signing", "sign", "broadcasting"),
        # The signer refused for good, so that no signed bytes exist nor can come to exist.
        Transition("signing", "refuse", "failed"),
        # Our own ingestion saw the transaction in a block.
        Transition("broadcasting", "include", "confirming"),
        # The block was replaced by another one; the same bytes go on being sent.
        Transition("confirming", "orphan", "broadcasting"),
        # The block is final and the transaction succeeded: the hold is posted.
        Transition("confirming", "settle", "settled"),
        # The block is final and the transaction failed on chain: the hold is released, the fee is booked.
        Transition("confirming", "fail", "failed"),
        # It can never be included: our own ingestion passed its last possible block without it, or its nonce is final otherwise.
        Transition("broadcasting", "lapse", "failed"),
    ),
)

BEFORE_APPROVERS = ("requested", "screening")
"""States in which nobody is asked to approve yet."""

ATTEMPTS = TransitionTable(
    "attempt",
    "reserved",
    (
        # The signer returned the bytes, and they are stored.
        Transition("reserved", "sign", "signed"),
        # The signer refused, or the nonce is final with other bytes first: none of this attempt are kept.
        Transition("reserved", "refuse", "refused"),
        # The bytes may have reached the network: written before the answer is known, so an unknown answer needs no state.
        Transition("signed", "send", "broadcast"),
        # Seen on chain before we noted that we had sent it (a crash in between).
        Transition("signed", "include", "included"),
        # Seen on chain by our own ingestion.
        Transition("broadcast", "include", "included"),
        # The block was replaced.
        Transition("included", "orphan", "broadcast"),
        # Final, successful.
        Transition("included", "confirm", "confirmed"),
        # Final, failed on chain; the sequence and the fee are used up.
        Transition("included", "fail", "failed"),
        # Proved absent before it was noted as sent.
        Transition("signed", "lapse", "lapsed"),
        # Proved absent: our own chain passed its bound, or its nonce is final with other bytes.
        Transition("broadcast", "lapse", "lapsed"),
    ),
)

STRAYS = TransitionTable(
    "stray_transaction",
    "observed",
    (
        # The block is final: its fee is booked and an operator is told. The amount shows as a break in reconciliation.
        Transition("observed", "book", "booked"),
        # The block was replaced.
        Transition("observed", "orphan", "orphaned"),
        # Seen again in another block.
        Transition("orphaned", "observe", "observed"),
        # An attempt's bytes with this hash were stored only now: somebody sent them before we had noted them.
        Transition("observed", "match", "matched"),
        # The same, after the fee was booked; the attempt books the same fee under the same id, once.
        Transition("booked", "match", "matched"),
    ),
)
