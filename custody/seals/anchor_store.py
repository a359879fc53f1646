"""SQL of anchors."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, insert, select

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, WithdrawalId
from custody.seals.model import Anchor
from custody.seals.tables import ledger_anchors as anchors


async def load_anchors(session: ReadSession) -> list[Anchor]:
    """All anchors of the tenant, by seal."""
    rows = await session.conn.execute(
        select(anchors)
        .where(anchors.c.tenant_id == session.tenant)
        .order_by(anchors.c.sequence, anchors.c.chain, anchors.c.number)
    )
    return [_anchor(row) for row in rows]


async def load_newest(session: ReadSession, sequence: int, chain: ChainId) -> Anchor | None:
    """The last try to write this seal to this chain."""
    rows = await session.conn.execute(
        select(anchors)
        .where(
            anchors.c.tenant_id == session.tenant, anchors.c.sequence == sequence, anchors.c.chain == chain
        )
        .order_by(anchors.c.number.desc())
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else _anchor(row)


async def insert_anchor(
    uow: UnitOfWork,
    *,
    sequence: int,
    chain: ChainId,
    number: int,
    withdrawal_id: WithdrawalId,
    seal_hash: bytes,
) -> Anchor:
    """Append a try."""
    rows = await uow.conn.execute(
        insert(anchors)
        .values(
            tenant_id=uow.tenant,
            sequence=sequence,
            chain=chain,
            number=number,
            withdrawal_id=withdrawal_id,
            seal_hash=seal_hash,
        )
        .returning(anchors)
    )
    return _anchor(rows.one())


def _anchor(row: Row[Any]) -> Anchor:
    return Anchor(
        tenant=TenantId(row.tenant_id),
        sequence=row.sequence,
        chain=ChainId(row.chain),
        number=row.number,
        withdrawal_id=WithdrawalId(row.withdrawal_id),
        seal_hash=bytes(row.seal_hash),
        created_at=row.created_at,
    )
