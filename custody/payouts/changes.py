"""One move of a payout and all that goes with it: state, books, event, audit, in one transaction.

Locks: the payout's row first (taken by the caller), then ledger accounts.
"""

from __future__ import annotations

from sqlalchemy import func

from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.events import outbox
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.payouts import store
from custody.payouts.model import Payout
from custody.payouts.transitions import PAYOUTS, Effect, effects


async def apply(uow: UnitOfWork, payout: Payout, event: str, actor: str, **values: object) -> Payout:
    """Move a locked payout by one event. Raises IllegalTransition."""
    target = PAYOUTS.target(payout.state, event)
    booked = effects(payout.state, target)
    if Effect.POST_HOLD in booked:
        values["settled_at"] = func.clock_timestamp()
    if Effect.BOOK_RETURN in booked:
        values["returned_at"] = func.clock_timestamp()
    moved = await store.move(uow, payout, event, values)
    for effect in booked:
        await _book(uow, moved, effect)
    await announce(uow, moved, actor)
    return moved


async def announce(uow: UnitOfWork, payout: Payout, actor: str) -> None:
    """Tell the outbox and the audit log which state a payout is in now."""
    told = snapshot(payout)
    await outbox.emit(uow, f"payout.{payout.state}", payout.id, told)
    await audit.record(uow, actor, f"payout.{payout.state}", payout.id, told)


def snapshot(payout: Payout) -> dict[str, object]:
    """A payout as events tell it: whole, in JSON values."""
    return {
        "payout_id": str(payout.id),
        "wallet_id": str(payout.wallet_id),
        "bank_account_id": str(payout.bank_account_id),
        "rail": payout.rail,
        "asset": payout.amount.asset.text,
        "amount": str(payout.amount.atomic),
        "state": payout.state,
        "reference": payout.reference,
        "external_ref": payout.external_ref,
        "reason": payout.reason,
    }


async def _book(uow: UnitOfWork, payout: Payout, effect: Effect) -> None:
    match effect:
        case Effect.POST_HOLD:
            await ledger.post(uow, *postings.payout_settled(payout_id=payout.id))
        case Effect.VOID_HOLD:
            await ledger.post(uow, *postings.payout_released(payout_id=payout.id))
        case Effect.BOOK_RETURN:
            await ledger.post(
                uow,
                *postings.payout_returned(
                    payout_id=payout.id,
                    wallet_id=payout.wallet_id,
                    bank_account_id=payout.bank_account_id,
                    amount=payout.amount,
                ),
            )
