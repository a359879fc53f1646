"""Account numbers with a meaning: what a payment to them does in the sandbox bank.

The last four digits decide, so that a test or a demo can ask for each fault by the beneficiary it pays. Every number is a valid
IBAN (ISO 13616, mod 97) of an invented bank.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schwifty import IBAN

_BANK_CODE = "50099900"


class Notify(StrEnum):
    """How the bank calls back about one step."""

    ONCE = "once"
    """One signed callback, repeated until it is answered with 2xx."""
    TWICE = "twice"
    """The same callback delivered two times, as an at-least-once sender does."""
    LATE = "late"
    """Held back until later steps have been told: the callbacks arrive out of order."""
    NEVER = "never"
    """No callback at all: only a status question finds it out."""


class Answer(StrEnum):
    """How the bank answers the submission itself."""

    ACCEPT = "accept"
    """Accepted, and answered at once."""
    REFUSE = "refuse"
    """Refused for good, with a reason code."""
    STALL = "stall"
    """Accepted, but the answer comes after every client has given up."""
    OUTAGE = "outage"
    """The first submission is answered 503 and not accepted; the next one is."""
    GARBLE = "garble"
    """Accepted, and echoed with an amount that was never asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that happens to an accepted payment by itself."""

    status: str
    """What the payment becomes: settled, rejected or returned."""
    code: str = ""
    """ISO 20022 external status or return reason, empty where none applies."""
    notify: Notify = Notify.ONCE
    """How our customer is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What a beneficiary's account number makes of a payment."""

    answer: Answer = Answer.ACCEPT
    """The reply to the submission."""
    code: str = ""
    """Reason of a refusal."""
    steps: tuple[Step, ...] = (Step(status="settled"),)
    """What follows, in order."""


NORMAL = 1000
REFUSED = 9001
REJECTED_LATER = 9002
RETURNED = 9003
STALLED = 9004
TOLD_TWICE = 9005
TOLD_OUT_OF_ORDER = 9006
GARBLED = 9007
NEVER_TOLD = 9008
OUTAGE_FIRST = 9009

_SETTLED = Step(status="settled")
_BEHAVIOURS = {
    REFUSED: Behaviour(answer=Answer.REFUSE, code="AC01", steps=()),
    REJECTED_LATER: Behaviour(steps=(Step(status="rejected", code="AG01"),)),
    RETURNED: Behaviour(steps=(_SETTLED, Step(status="returned", code="AC04"))),
    STALLED: Behaviour(answer=Answer.STALL, steps=(Step(status="settled", notify=Notify.NEVER),)),
    TOLD_TWICE: Behaviour(steps=(Step(status="settled", notify=Notify.TWICE),)),
    TOLD_OUT_OF_ORDER: Behaviour(
        steps=(Step(status="settled", notify=Notify.LATE), Step(status="returned", code="AC04"))
    ),
    GARBLED: Behaviour(answer=Answer.GARBLE),
    NEVER_TOLD: Behaviour(steps=(Step(status="settled", notify=Notify.NEVER),)),
    OUTAGE_FIRST: Behaviour(answer=Answer.OUTAGE),
}


def behaviour_of(iban: str) -> Behaviour:
    """What a payment to this account does; an account without a special ending settles."""
    ending = iban[-4:]
    return _BEHAVIOURS.get(int(ending), Behaviour()) if ending.isdigit() else Behaviour()


def sandbox_iban(number: int) -> str:
    """The valid IBAN of this account number (up to ten digits) at the invented bank."""
    return str(IBAN.generate("DE", bank_code=_BANK_CODE, account_code=f"{number:010d}"))
