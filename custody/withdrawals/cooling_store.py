"""SQL of waiting: rules of cool-downs, and what the database's clock says, which wrote the times that it is asked about."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Row, cast, func, insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId
from custody.withdrawals.cooling_model import ANY, CoolDownRule
from custody.withdrawals.cooling_tables import cool_down_rules
from custody.withdrawals.model import Withdrawal
from custody.withdrawals.tables import withdrawals


async def insert_rule(uow: UnitOfWork, **values: Any) -> CoolDownRule:
    """Add a row."""
    made = await uow.conn.execute(
        insert(cool_down_rules).values(tenant_id=uow.tenant, **values).returning(cool_down_rules.c.sequence)
    )
    rows = await uow.conn.execute(
        select(cool_down_rules).where(
            cool_down_rules.c.tenant_id == uow.tenant, cool_down_rules.c.sequence == made.scalar_one()
        )
    )
    return _rule(rows.one())


async def load_rules(session: ReadSession) -> list[CoolDownRule]:
    """The rows in force: the last of each asset and threshold, by asset and threshold."""
    rows = await session.conn.execute(
        select(cool_down_rules)
        .ext(distinct_on(cool_down_rules.c.asset, cool_down_rules.c.amount_min))
        .where(cool_down_rules.c.tenant_id == session.tenant)
        .order_by(cool_down_rules.c.asset, cool_down_rules.c.amount_min, cool_down_rules.c.sequence.desc())
    )
    return [_rule(row) for row in rows]


async def load_cool_down_s(session: ReadSession, asset: AssetId, amount: int) -> int:
    """The longest wait that a rule in force demands of this payment; 0 when none does."""
    last = (
        select(cool_down_rules.c.seconds)
        .ext(distinct_on(cool_down_rules.c.asset, cool_down_rules.c.amount_min))
        .where(
            cool_down_rules.c.tenant_id == session.tenant,
            cool_down_rules.c.asset.in_((ANY, asset.text)),
            cool_down_rules.c.amount_min <= amount,
        )
        .order_by(cool_down_rules.c.asset, cool_down_rules.c.amount_min, cool_down_rules.c.sequence.desc())
        .subquery()
    )
    rows = await session.conn.execute(select(func.coalesce(func.max(last.c.seconds), 0)))
    return int(rows.scalar_one())


async def load_left_s(session: ReadSession, withdrawal: Withdrawal) -> int:
    """Seconds until it has cooled down, begun ones counted; 0 or less when it has."""
    return await _whole_s(session, withdrawal, withdrawals.c.cool_until - func.clock_timestamp())


async def load_age_s(session: ReadSession, withdrawal: Withdrawal) -> int:
    """Seconds since its state last changed, the one that has begun counted."""
    return await _whole_s(session, withdrawal, func.clock_timestamp() - withdrawals.c.changed_at)


async def _whole_s(session: ReadSession, withdrawal: Withdrawal, span: Any) -> int:
    whole = cast(func.ceil(func.extract("epoch", func.coalesce(span, timedelta(0)))), BigInteger)
    rows = await session.conn.execute(
        select(whole).where(withdrawals.c.tenant_id == session.tenant, withdrawals.c.id == withdrawal.id)
    )
    return int(rows.scalar_one())


def _rule(row: Row[Any]) -> CoolDownRule:
    return CoolDownRule(
        sequence=row.sequence,
        asset=row.asset,
        amount_min=row.amount_min,
        seconds=row.seconds,
        actor=row.actor,
        note=row.note,
        created_at=row.created_at,
    )
