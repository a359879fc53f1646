"""Credit or debit a wallet by hand, with four eyes: one person proposes and shows the evidence, another confirms, and only
then money moves.

The other side is our own capital (`equity:capital`), so that every adjustment shows in the report as what it is: money that we
gave or took. Nothing is held meanwhile: a debit that the wallet cannot pay when it is confirmed is refused, and stays proposed;
so is one that a kill switch stops by then.
"""

from __future__ import annotations

from collections.abc import Sequence

from custody.adjustments import store
from custody.adjustments.errors import (
    AdjustmentExistsDifferent,
    ProposerNeeded,
    SecondPersonNeeded,
    UnknownAdjustment,
)
from custody.adjustments.model import Adjustment, Direction, ProposeAdjustment, demand_words
from custody.adjustments.transitions import ADJUSTMENTS
from custody.assets import service as assets
from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.identity.model import Principal
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import AdjustmentId
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.switches import service as switches
from custody.switches.model import of_asset, of_customer
from custody.wallets import service as wallets


async def propose(uow: UnitOfWork, principal: Principal, wanted: ProposeAdjustment) -> Adjustment:
    """Write down what is to be corrected. Moves nothing. Idempotent by id.

    Raises UnknownWallet, UnknownAsset, AdjustmentExistsDifferent.
    """
    await wallets.get_wallet(uow, wanted.wallet_id)
    await assets.get(uow, wanted.amount.asset)
    written = await store.insert_adjustment(uow, wanted, principal.subject)
    made = await get(uow, wanted.id)
    if not written:
        if made.wanted != wanted or made.proposed_by != principal.subject:
            raise AdjustmentExistsDifferent(adjustment=wanted.id)
        return made
    await _announce(uow, principal, "propose", made)
    return made


async def confirm(
    uow: UnitOfWork, principal: Principal, adjustment_id: AdjustmentId, note: str
) -> Adjustment:
    """Agree, as the second person, and post it in this transaction.

    Raises UnknownAdjustment, SecondPersonNeeded, IllegalTransition, InsufficientFunds, StoppedBySwitch. Locks the adjustment,
    then the accounts.
    """
    found = await _lock(uow, adjustment_id, "confirm", note)
    _demand_another(principal, found)
    wanted = found.wanted
    places = [*of_asset(wanted.amount.asset)]
    if wanted.direction is Direction.DEBIT:
        places.append(of_customer((await wallets.get_wallet(uow, wanted.wallet_id)).customer_id))
    await switches.refuse_stopped(uow, places)
    outcomes = await ledger.post(
        uow,
        *postings.adjusted(
            adjustment_id=wanted.id,
            wallet_id=wanted.wallet_id,
            amount=wanted.amount,
            credit=wanted.direction is Direction.CREDIT,
        ),
    )
    booked_at = next((outcome.booked_at for outcome in outcomes if outcome.booked_at is not None), None)
    if booked_at is None or any(outcome.replayed for outcome in outcomes if outcome.command_id is not None):
        raise InvariantViolated("an adjustment was posted before it was confirmed", adjustment=wanted.id)
    made = await store.decide(
        uow, wanted.id, "confirm", decided_by=principal.subject, note=note, booked_at=booked_at
    )
    await _announce(uow, principal, "confirm", made)
    return made


async def reject(uow: UnitOfWork, principal: Principal, adjustment_id: AdjustmentId, note: str) -> Adjustment:
    """Disagree, as the second person. Raises UnknownAdjustment, SecondPersonNeeded, IllegalTransition."""
    found = await _lock(uow, adjustment_id, "reject", note)
    _demand_another(principal, found)
    made = await store.decide(uow, found.id, "reject", decided_by=principal.subject, note=note)
    await _announce(uow, principal, "reject", made)
    return made


async def withdraw(
    uow: UnitOfWork, principal: Principal, adjustment_id: AdjustmentId, note: str
) -> Adjustment:
    """Take back what one proposed oneself. Raises UnknownAdjustment, ProposerNeeded, IllegalTransition."""
    found = await _lock(uow, adjustment_id, "withdraw", note)
    if principal.subject != found.proposed_by:
        raise ProposerNeeded(adjustment=found.id)
    made = await store.decide(uow, found.id, "withdraw", decided_by=principal.subject, note=note)
    await _announce(uow, principal, "withdraw", made)
    return made


async def get(session: ReadSession, adjustment_id: AdjustmentId) -> Adjustment:
    """One adjustment. Raises UnknownAdjustment."""
    found = await store.load_adjustment(session, adjustment_id)
    if found is None:
        raise UnknownAdjustment(adjustment=adjustment_id)
    return found


async def list_adjustments(
    session: ReadSession,
    *,
    state: str | None = None,
    before: AdjustmentId | None = None,
    limit: int = 100,
) -> Sequence[Adjustment]:
    """A page, newest first, of one state or of all; `before` is the last of the page before."""
    return await store.load_adjustments(session, state=state, before=before, limit=limit)


async def _lock(uow: UnitOfWork, adjustment_id: AdjustmentId, event: str, note: str) -> Adjustment:
    """The adjustment, if this may happen to it in its state."""
    demand_words(note)
    found = await store.lock_adjustment(uow, adjustment_id)
    if found is None:
        raise UnknownAdjustment(adjustment=adjustment_id)
    ADJUSTMENTS.target(found.state, event)
    return found


def _demand_another(principal: Principal, found: Adjustment) -> None:
    """People are compared, not keys: two keys of one person are one pair of eyes."""
    if principal.subject == found.proposed_by:
        raise SecondPersonNeeded(adjustment=found.id)


async def _announce(uow: UnitOfWork, principal: Principal, action: str, made: Adjustment) -> None:
    told: dict[str, object] = {
        "adjustment_id": str(made.id),
        "wallet_id": str(made.wanted.wallet_id),
        "direction": made.wanted.direction.value,
        "asset": made.wanted.amount.asset.text,
        "amount": str(made.wanted.amount.atomic),
        "reason": made.wanted.reason.value,
        "evidence": made.wanted.evidence,
        "state": made.state,
        "proposed_by": made.proposed_by,
        "decided_by": made.decided_by,
        "note": made.note,
    }
    await outbox.emit(uow, f"adjustment.{made.state}", made.id, told)
    await audit.record(uow, principal.subject, f"adjustment.{action}", made.id, told)
