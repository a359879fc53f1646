"""SQL of payouts. Every statement names the tenant, and every change of state is guarded by the states it may start from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.narrowing import of_customer
from custody.db.pages import in_sequence, of_choices
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import parse_asset_id
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import BankAccountId, PayoutId, WalletId
from custody.kernel.money import Amount
from custody.payouts.model import BookedMovement, Payout, PollTarget, RailObservation
from custody.payouts.tables import payout_attempts, payouts, rail_observations
from custody.payouts.transitions import PAYOUTS


async def insert_payout(uow: UnitOfWork, values: dict[str, object]) -> bool:
    """Whether it was written; False when the id is taken."""
    written = await uow.conn.execute(
        upsert(payouts)
        .values(tenant_id=uow.tenant, state=PAYOUTS.initial, **values)
        .on_conflict_do_nothing(index_elements=["tenant_id", "id"])
        .returning(payouts.c.id)
    )
    return written.one_or_none() is not None


async def load_payout(session: ReadSession, payout_id: PayoutId, *, lock: bool = False) -> Payout | None:
    """The tenant's payout; locked until the transaction ends when `lock`."""
    query = select(payouts).where(payouts.c.tenant_id == session.tenant, payouts.c.id == payout_id)
    rows = await session.conn.execute(query.with_for_update() if lock else query)
    row = rows.one_or_none()
    return None if row is None else _payout(row)


async def lock_by_reference(uow: UnitOfWork, rail: str, reference: str) -> Payout | None:
    """The payout sent under this reference, locked."""
    rows = await uow.conn.execute(
        select(payouts)
        .where(payouts.c.tenant_id == uow.tenant, payouts.c.rail == rail, payouts.c.reference == reference)
        .with_for_update()
    )
    row = rows.one_or_none()
    return None if row is None else _payout(row)


async def lock_next_ready(
    uow: UnitOfWork, rails: tuple[str, ...], *, assets: Sequence[str], wallets: Sequence[WalletId]
) -> Payout | None:
    """The oldest payout that nobody has claimed, of these rails, but not of these assets and wallets; skips those that another
    worker is claiming."""
    rows = await uow.conn.execute(
        select(payouts)
        .where(
            payouts.c.tenant_id == uow.tenant,
            payouts.c.state.in_(PAYOUTS.sources("claim")),
            payouts.c.rail.in_(rails),
            payouts.c.asset.not_in(assets),
            payouts.c.wallet_id.not_in(wallets),
        )
        .order_by(payouts.c.sequence)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    row = rows.one_or_none()
    return None if row is None else _payout(row)


async def load_payouts(
    session: ReadSession,
    *,
    wallet_id: WalletId | None,
    states: Collection[str],
    after: PayoutId | None,
    limit: int,
    newest_first: bool,
) -> list[Payout]:
    """A page of the tenant's payouts in the order they were asked for or the reverse, after one of them."""
    query = select(payouts).where(payouts.c.tenant_id == session.tenant)
    query = of_choices(of_customer(query, session, payouts.c.wallet_id), payouts.c.state, states)
    if wallet_id is not None:
        query = query.where(payouts.c.wallet_id == wallet_id)
    rows = await session.conn.execute(
        in_sequence(query, session, payouts, after=after, limit=limit, newest_first=newest_first)
    )
    return [_payout(row) for row in rows]


async def move(uow: UnitOfWork, payout: Payout, event: str, values: dict[str, object]) -> Payout:
    """Change the state by one event, guarded. Raises IllegalTransition; InvariantViolated when the row moved under a lock."""
    target = PAYOUTS.target(payout.state, event)
    rows = await uow.conn.execute(
        update(payouts)
        .where(
            payouts.c.tenant_id == uow.tenant,
            payouts.c.id == payout.id,
            payouts.c.state == payout.state,
            payouts.c.state.in_(PAYOUTS.sources(event)),
        )
        .values(state=target, **values)
        .returning(payouts)
    )
    row = rows.one_or_none()
    if row is None:
        raise InvariantViolated("a locked payout changed its state", payout=payout.id, event=event)
    return _payout(row)


async def open_attempt(uow: UnitOfWork, payout_id: PayoutId, reference: str, lease_until: datetime) -> int:
    """Write down the next sending. Returns its number."""
    number = await last_attempt(uow, payout_id) + 1
    await uow.conn.execute(
        insert(payout_attempts).values(
            tenant_id=uow.tenant,
            payout_id=payout_id,
            number=number,
            reference=reference,
            lease_until=lease_until,
        )
    )
    return number


async def last_attempt(uow: UnitOfWork, payout_id: PayoutId) -> int:
    """Number of the newest sending; 0 before the first."""
    last = await uow.conn.execute(
        select(func.coalesce(func.max(payout_attempts.c.number), 0)).where(
            payout_attempts.c.tenant_id == uow.tenant, payout_attempts.c.payout_id == payout_id
        )
    )
    return int(last.scalar_one())


async def close_attempt(uow: UnitOfWork, payout_id: PayoutId, number: int, outcome: str, detail: str) -> None:
    """Write how a sending ended, unless that is already written (its lease ran out first)."""
    await uow.conn.execute(
        update(payout_attempts)
        .where(
            payout_attempts.c.tenant_id == uow.tenant,
            payout_attempts.c.payout_id == payout_id,
            payout_attempts.c.number == number,
            payout_attempts.c.outcome.is_(None),
        )
        .values(outcome=outcome, detail=detail)
    )


async def expired_attempts(session: ReadSession, now: datetime, limit: int) -> list[tuple[PayoutId, int]]:
    """Sendings whose worker has not come back in time."""
    rows = await session.conn.execute(
        select(payout_attempts.c.payout_id, payout_attempts.c.number)
        .where(
            payout_attempts.c.tenant_id == session.tenant,
            payout_attempts.c.outcome.is_(None),
            payout_attempts.c.lease_until < now,
        )
        .order_by(payout_attempts.c.lease_until)
        .limit(limit)
    )
    return [(PayoutId(row.payout_id), row.number) for row in rows]


async def due_for_poll(
    session: ReadSession, rails: tuple[str, ...], now: datetime, limit: int
) -> list[PollTarget]:
    """Payouts that wait for the rail's word and whose next question is due."""
    rows = await session.conn.execute(
        select(payouts.c.id, payouts.c.rail, payouts.c.reference)
        .where(
            payouts.c.tenant_id == session.tenant, payouts.c.rail.in_(rails), payouts.c.next_poll_at <= now
        )
        .order_by(payouts.c.next_poll_at)
        .limit(limit)
    )
    return [PollTarget(payout_id=PayoutId(row.id), rail=row.rail, reference=row.reference) for row in rows]


async def postpone_poll(uow: UnitOfWork, payout_id: PayoutId, polls: int, next_poll_at: datetime) -> None:
    """Count a question and set when the next is due, if the payout still waits."""
    await uow.conn.execute(
        update(payouts)
        .where(
            payouts.c.tenant_id == uow.tenant, payouts.c.id == payout_id, payouts.c.next_poll_at.is_not(None)
        )
        .values(polls=polls, next_poll_at=next_poll_at)
    )


async def is_recorded(uow: UnitOfWork, rail: str, external_event_id: str) -> bool:
    """Whether this fact was recorded before."""
    rows = await uow.conn.execute(
        select(literal(1)).where(
            rail_observations.c.tenant_id == uow.tenant,
            rail_observations.c.rail == rail,
            rail_observations.c.external_event_id == external_event_id,
        )
    )
    return rows.one_or_none() is not None


async def insert_observation(
    uow: UnitOfWork, payout_id: PayoutId, observation: RailObservation, result: str
) -> None:
    """Record a fact and what became of it."""
    await uow.conn.execute(
        insert(rail_observations).values(
            tenant_id=uow.tenant,
            rail=observation.rail,
            external_event_id=observation.external_event_id,
            payout_id=payout_id,
            external_ref=observation.external_ref,
            event=observation.event.value,
            code=observation.code,
            asset=observation.amount.asset.text,
            amount=observation.amount.atomic,
            beneficiary_iban=observation.beneficiary_iban,
            occurred_at=observation.occurred_at,
            raw_sha256=observation.raw_sha256,
            result=result,
        )
    )


async def booked_movements(session: ReadSession, bank_account_id: BankAccountId) -> list[BookedMovement]:
    """What settled and returned payouts booked on a bank account, named as its statement names them."""
    rows = await session.conn.execute(
        select(payouts.c.external_ref, payouts.c.amount, payouts.c.returned_at)
        .where(
            payouts.c.tenant_id == session.tenant,
            payouts.c.bank_account_id == bank_account_id,
            payouts.c.settled_at.is_not(None),
        )
        .order_by(payouts.c.sequence)
    )
    found: list[BookedMovement] = []
    for row in rows:
        found.append(BookedMovement(kind="payment", external_ref=row.external_ref, amount=-row.amount))
        if row.returned_at is not None:
            found.append(BookedMovement(kind="return", external_ref=row.external_ref, amount=row.amount))
    return found


def _payout(row: Row[Any]) -> Payout:
    asset = parse_asset_id(row.asset)
    return Payout(
        id=PayoutId(row.id),
        sequence=row.sequence,
        wallet_id=WalletId(row.wallet_id),
        bank_account_id=BankAccountId(row.bank_account_id),
        rail=row.rail,
        account_iban=row.account_iban,
        beneficiary_iban=row.beneficiary_iban,
        beneficiary_name=row.beneficiary_name,
        amount=Amount(asset, row.amount),
        remittance=row.remittance,
        state=row.state,
        reference=row.reference,
        external_ref=row.external_ref,
        reason=row.reason,
        requested_by=row.requested_by,
        polls=row.polls,
        created_at=row.created_at,
    )
