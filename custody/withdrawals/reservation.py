"""How a slot is taken: the attempt's row, committed before anything is signed. And how one waits, or is dropped."""

from __future__ import annotations

import structlog

from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.events import outbox
from custody.withdrawals import attempt_store, store
from custody.withdrawals.model import STUCK, Attempt, Withdrawal
from custody.withdrawals.moves import WORKER, move, snapshot
from custody.withdrawals.slots import Wait
from custody.withdrawals.transitions import WITHDRAWALS

_log = structlog.get_logger(__name__)


async def take(uow: UnitOfWork, withdrawal: Withdrawal, attempt: Attempt, *, exclusive: bool) -> None:
    """Commit the attempt's slot; the first one moves its withdrawal to `signing`."""
    await attempt_store.insert_attempt(uow, attempt, exclusive=exclusive)
    if withdrawal.state in WITHDRAWALS.sources("reserve"):
        await move(uow, withdrawal, "reserve", actor=WORKER, detail={"sequence": attempt.sequence})


async def hold_off(uow: UnitOfWork, withdrawal: Withdrawal, wait: Wait) -> None:
    """No slot now: look again later, and tell operators where waiting alone may not help."""
    _log.info("withdrawal.waits", withdrawal_id=str(withdrawal.id), reason=wait.reason)
    await flag(uow, withdrawal, wait.reason if wait.reason in STUCK else "")
    await store.look_again(uow, withdrawal, wait.look_in_s)


async def drop(uow: UnitOfWork, withdrawal: Withdrawal, reason: str) -> None:
    """What it was for has come about, or ended, without it: taken back. It holds nothing and has no attempt."""
    event = "cancel" if withdrawal.state == "approved" else "refuse"
    await move(uow, withdrawal, event, actor=WORKER, reason=reason)


async def flag(uow: UnitOfWork, withdrawal: Withdrawal, reason: str) -> None:
    """Say why it goes no further by itself, once; "" when it does again. Every move of the withdrawal ends it too."""
    if await store.mark_stuck(uow, withdrawal, reason) and reason:
        _log.warning("withdrawal.stuck", withdrawal_id=str(withdrawal.id), reason=reason)
        await outbox.emit(uow, "withdrawal.stuck", withdrawal.id, snapshot(withdrawal) | {"stuck": reason})
        await audit.record(uow, WORKER, "withdrawal.stuck", withdrawal.id, {"reason": reason})
