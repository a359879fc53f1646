"""When a channel or the fee account is to be opened or filled up. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from custody.chain_settings import STELLAR_RESERVE
from custody.withdrawals.asking import next_number
from custody.withdrawals.model import PastRefill

FEES_KEPT = 2
"""An account that can pay fewer of the highest fees than this is filled up."""


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
    number = next_number(past, now)
    if number is None:
        return None
    if not any(each.paid and each.opens for each in past):
        return Refill(number=number, amount=full, opens=True)
    if held >= STELLAR_RESERVE + FEES_KEPT * fee_max:
        return None
    return Refill(number=number, amount=full - held, opens=False)
