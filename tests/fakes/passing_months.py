"""Months that pass: books whose clock is set ahead, since the ledger books no earlier than it has booked before."""

from __future__ import annotations

from datetime import UTC, date, datetime

import asyncpg

from custody.seals.archives import begin_of, month_after, month_of


def this_month() -> date:
    """The month in which books begin."""
    return month_of(datetime.now(UTC))


def later(months: int) -> date:
    """The month so many after this one."""
    month = this_month()
    for _ in range(months):
        month = month_after(month)
    return month


async def let_pass(admin_dsn: str, months: int) -> datetime:
    """From now on, whatever is booked is booked at the beginning of the month so many after this one, which has a partition."""
    at = begin_of(later(months))
    connection = await asyncpg.connect(admin_dsn)
    await connection.execute("UPDATE ledger_accounts SET booked_at = $1", at)
    await connection.close()
    return at
