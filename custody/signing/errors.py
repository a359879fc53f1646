"""How a call to the signer can end without an answer, and what a signature can be refused for here."""

from __future__ import annotations

from custody.kernel.errors import InvalidInput, InvariantViolated, Refused, Unavailable


class SignerUnreachable(Unavailable):
    """No connection could be opened: nothing was asked, so nothing was done."""

    code = "signer_unreachable"
    public = "The signer cannot be reached."


class SigningUnknown(Unavailable):
    """The request was sent and no answer came: it may or may not have been carried out.

    The only way on is the same request again; the signer's journal returns what it did.
    """

    code = "signing_unknown"
    public = "The signer has not answered; its answer will be asked for again."


class SignerUndecided(Unavailable):
    """The signer declined for a reason that says nothing about the request: it is busy, misconfigured, or unwell.

    `values["reason"]` is its code. The same request may be carried out later.
    """

    code = "signer_undecided"
    public = "The signer cannot answer now."


class SignerRefused(Refused):
    """The signer understood and declined. `values["reason"]` is its code."""

    code = "signer_refused"
    public = "The signer refused."

    @property
    def reason(self) -> str:
        """The signer's stable code."""
        return str(self.values["reason"])


class SignerContradicted(InvariantViolated):
    """The signer answered a question that was not asked, or about another intent."""

    code = "signer_contradicted"


class InvalidIntent(InvalidInput):
    """The effect cannot be written as an intent. `values` hold the protocol's code and the field."""

    code = "invalid_intent"
    public = "The request cannot be expressed as an intent."


class InvalidDecision(InvalidInput):
    """The signature, the key or the person behind a decision is wrong."""

    code = "invalid_decision"
    public = "The decision is not validly signed by an approver."


_UNDECIDED = frozenset(
    {
        "busy",
        "forbidden",
        "malformed_message",
        "not_yet",
        "cooling_down",
        "outside_hours",
        "stopped",
        "too_many_voids",
        "clock_backwards",
        "hsm_fault",
        "key_fault",
        "journal_fault",
        "anchor_mismatch",
    }
)
"""Codes of the signer that do not judge the request. Source: signer/protocol/SPEC.md section 5."""


def refusal(reason: str, text: str = "") -> SignerRefused | SignerUndecided:
    """The error that stands for a refusal of the signer."""
    kind = SignerUndecided if reason in _UNDECIDED else SignerRefused
    return kind(reason=reason, text=text)
