"""SQL of the rules by which breaks stop payments."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, func, insert, select
from sqlalchemy.dialects.postgresql import distinct_on

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings.stop_model import Stop, StopRule
from custody.holdings.store import Key, is_key
from custody.holdings.tables import holding_breaks, holding_stop_rules
from custody.holdings.transitions import HOLDING_BREAKS
from custody.kernel.assetid import AssetId, parse_asset_id


async def load_stop(session: ReadSession, key: Key) -> Stop | None:
    """The open break of a holding beside what is let pass; None where none is open."""
    rules, breaks = holding_stop_rules, holding_breaks
    threshold = (
        select(rules.c.threshold)
        .where(rules.c.tenant_id == session.tenant, rules.c.asset == key[1].text)
        .order_by(rules.c.version.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = await session.conn.execute(
        select(breaks.c.id, breaks.c.difference, func.coalesce(threshold, 0).label("threshold")).where(
            *is_key(breaks, session, key), breaks.c.state == HOLDING_BREAKS.initial
        )
    )
    row = rows.one_or_none()
    if row is None:
        return None
    return Stop(break_id=row.id, difference=int(row.difference), threshold=int(row.threshold))


async def load_rule(session: ReadSession, asset: AssetId) -> StopRule | None:
    """The rule in force for an asset."""
    table = holding_stop_rules
    rows = await session.conn.execute(
        select(table)
        .where(table.c.tenant_id == session.tenant, table.c.asset == asset.text)
        .order_by(table.c.version.desc())
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else _rule(row)


async def load_rules(session: ReadSession) -> list[StopRule]:
    """The rules in force, one for each asset that has any."""
    table = holding_stop_rules
    rows = await session.conn.execute(
        select(table)
        .ext(distinct_on(table.c.asset))
        .where(table.c.tenant_id == session.tenant)
        .order_by(table.c.asset, table.c.version.desc())
    )
    return [_rule(row) for row in rows]


async def insert_rule(uow: UnitOfWork, rule: StopRule) -> None:
    """Append a rule."""
    await uow.conn.execute(
        insert(holding_stop_rules).values(
            tenant_id=uow.tenant,
            asset=rule.asset.text,
            version=rule.version,
            threshold=rule.threshold,
            set_by=rule.set_by,
            note=rule.note,
        )
    )


def _rule(row: Row[Any]) -> StopRule:
    return StopRule(
        asset=parse_asset_id(row.asset),
        version=row.version,
        threshold=int(row.threshold),
        set_by=row.set_by,
        note=row.note,
    )
