"""When a channel or the fee account is to be opened or filled up. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from custody.chain_settings import STELLAR_RESERVE
from custody.withdrawals.model import PastRefill

FEES_KEPT = 2
"""An account that can pay fewer of the highest fees than this is filled up."""
PAUSE, PAUSE_MAX = timedelta(minutes=1), timedelta(days=1)
"""How long after a refill that ended unpaid the next one is asked for, and at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refill:
    """What to ask for."""

    number: int
    """1 for the first one of its vault: it names the request, so that two rounds ask for one and the same."""
    amount: int
    """Stroops."""
    opens: bool
    """Whether the account has to be made."""


def next_refill(
    past: Sequence[PastRefill], *, held: int, full: int, fee_max: int, now: datetime
) -> Refill | None:
    """What is missing now; None when the account can pay, or when an earlier refill may still arrive.

    An account exists once a refill has opened it. One at a time. One that ended unpaid (somebody said no, it lapsed, it failed on
    chain) is asked for again under the next number, after a pause that doubles each time.
    """
    if any(each.is_open for each in past):
        return None
    unpaid = next((count for count, each in enumerate(reversed(past)) if each.paid), len(past))
    pause = min(PAUSE * 2 ** min(unpaid - 1, 16), PAUSE_MAX) if unpaid else timedelta(0)
    if unpaid and now < past[-1].changed_at + pause:
        return None
    number = len(past) + 1
    if not any(each.paid and each.opens for each in past):
        return Refill(number=number, amount=full, opens=True)
    if held >= STELLAR_RESERVE + FEES_KEPT * fee_max:
        return None
    return Refill(number=number, amount=full - held, opens=False)
