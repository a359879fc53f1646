"""How a slot is taken: the attempt's row, committed before anything is signed. And how a withdrawal waits for one."""

from __future__ import annotations

import structlog

from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.events import outbox
from custody.kernel.ids import AttemptId, new_uuid
from custody.signing.model import EvmSlot, Slot, StellarSlot
from custody.wallets.model import Vault
from custody.withdrawals import attempt_store, store
from custody.withdrawals.model import STUCK, Attempt, Withdrawal
from custody.withdrawals.moves import WORKER, move, snapshot
from custody.withdrawals.slots import Wait
from custody.withdrawals.transitions import ATTEMPTS

_log = structlog.get_logger(__name__)


def new_attempt(
    withdrawal: Withdrawal,
    vault: Vault,
    number: int,
    slot: Slot,
    *,
    alternative_of: AttemptId | None = None,
    intent: bytes | None = None,
    spends: int = 0,
) -> Attempt:
    """An attempt in its first state. `spends`: EVM, wei that the vault must hold for it."""
    stellar = slot if isinstance(slot, StellarSlot) else None
    return Attempt(
        id=AttemptId(new_uuid()),
        withdrawal_id=withdrawal.id,
        vault_id=vault.id,
        chain=vault.chain,
        number=number,
        state=ATTEMPTS.initial,
        sequence=slot.nonce if isinstance(slot, EvmSlot) else slot.sequence,
        max_ledger=None if stellar is None else stellar.max_ledger,
        max_time=None if stellar is None else stellar.max_time,
        fee_bid=slot.max_fee_per_gas if isinstance(slot, EvmSlot) else slot.fee,
        priority_fee=slot.max_priority_fee_per_gas if isinstance(slot, EvmSlot) else 0,
        tx=None,
        tx_hash=None,
        sends=0,
        last_answer="",
        height=None,
        succeeded=None,
        fee_paid=None,
        included_at=None,
        alternative_of=alternative_of,
        intent=intent,
        spends=spends,
    )


async def take(uow: UnitOfWork, withdrawal: Withdrawal, attempt: Attempt, *, exclusive: bool) -> None:
    """Commit the attempt's slot; the first one moves its withdrawal to `signing`."""
    await attempt_store.insert_attempt(uow, attempt, exclusive=exclusive)
    if withdrawal.state == "approved":
        await move(uow, withdrawal, "reserve", actor=WORKER, detail={"sequence": attempt.sequence})


async def hold_off(uow: UnitOfWork, withdrawal: Withdrawal, wait: Wait) -> None:
    """No slot now: look again later, and tell operators where waiting alone may not help."""
    _log.info("withdrawal.waits", withdrawal_id=str(withdrawal.id), reason=wait.reason)
    await flag(uow, withdrawal, wait.reason if wait.reason in STUCK else "")
    await store.look_again(uow, withdrawal, wait.look_in_s)


async def flag(uow: UnitOfWork, withdrawal: Withdrawal, reason: str) -> None:
    """Say why it goes no further by itself, once; "" when it does again. Every move of the withdrawal ends it too."""
    if await store.mark_stuck(uow, withdrawal, reason) and reason:
        _log.warning("withdrawal.stuck", withdrawal_id=str(withdrawal.id), reason=reason)
        await outbox.emit(uow, "withdrawal.stuck", withdrawal.id, snapshot(withdrawal) | {"stuck": reason})
        await audit.record(uow, WORKER, "withdrawal.stuck", withdrawal.id, {"reason": reason})
