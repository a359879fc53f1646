"""The one tree of errors.

    CustodyError
    ├── InvalidInput        the caller's words are wrong; nothing was changed            400 or 422
    ├── Unauthenticated     we do not know who is asking                                401
    ├── Forbidden           we know who is asking, and they may not                     403
    ├── NotFound            no such object, or not one of this tenant's                 404
    ├── Conflict            the object is not in a state for this, or the key is taken  409
    ├── Refused             well understood and declined: funds, policy, limits         422
    ├── Unavailable         try again later with the same key; nothing is known lost    503
    └── InvariantViolated   our own books or code are broken: stop the flow and page    500

Each class carries a stable `code` that clients may branch on, whether the same call may be repeated (`retryable`), and a
sentence that is safe to show. Only `api/errors.py` maps them to HTTP and GraphQL.
"""

from __future__ import annotations

from typing import ClassVar


class CustodyError(Exception):
    """Root of every error that this platform raises on purpose."""

    code: ClassVar[str] = "custody_error"
    retryable: ClassVar[bool] = False
    public: ClassVar[str] = "The request could not be carried out."

    def __init__(self, message: str = "", **values: object) -> None:
        """`values` are ids and amounts that name the case; they may be shown to the caller."""
        self.values: dict[str, object] = values
        self.message = message or self.public
        super().__init__(self.message)

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.values.items())
        return f"{self.code}: {self.message}" + (f" ({shown})" if shown else "")


class InvalidInput(CustodyError):
    """The input can never be accepted as it is."""

    code = "invalid_input"
    public = "The input is not valid."


class Unauthenticated(CustodyError):
    """No valid credential was presented."""

    code = "unauthenticated"
    public = "A valid credential is required."


class Forbidden(CustodyError):
    """The credential is valid and does not allow this."""

    code = "forbidden"
    public = "This credential does not allow the operation."


class NotFound(CustodyError):
    """The object does not exist for this tenant (another tenant's object looks the same)."""

    code = "not_found"
    public = "No such object."


class Conflict(CustodyError):
    """The object's state, or a key already used, forbids the operation."""

    code = "conflict"
    public = "The operation conflicts with what is already recorded."


class Refused(CustodyError):
    """A final and understood refusal: nothing was changed and repeating it will not help by itself."""

    code = "refused"
    public = "The operation was refused."


class Unavailable(CustodyError):
    """A part we depend on does not answer; the same call with the same key is safe to repeat."""

    code = "unavailable"
    retryable = True
    public = "The service is temporarily unavailable; repeat the call with the same key."


class InvariantViolated(CustodyError):
    """Something that must hold does not hold. Never caught to go on; it stops the flow and pages an operator."""

    code = "invariant_violated"
    public = "An internal invariant does not hold; operators have been alerted."


class IllegalTransition(Conflict):
    """A state machine has no row for this event in this state."""

    code = "illegal_transition"
    public = "The object is not in a state that allows this."
