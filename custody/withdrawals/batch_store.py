"""SQL of batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, insert, select

from custody.db.pages import in_sequence
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.ids import WithdrawalId
from custody.withdrawals.batch_tables import withdrawal_batch_lines, withdrawal_batches
from custody.withdrawals.model import Batch
from custody.withdrawals.tables import withdrawals


async def insert_batch(uow: UnitOfWork, batch: Batch, lines: list[WithdrawalId]) -> None:
    """Write a batch and which withdrawals it is, in the order of its document."""
    await uow.conn.execute(
        insert(withdrawal_batches).values(
            tenant_id=uow.tenant,
            id=batch.id,
            document=batch.document,
            digest=batch.digest,
            policy_version=batch.policy_version,
            initiator=batch.initiator,
            expires_at=batch.expires_at,
        )
    )
    await uow.conn.execute(
        insert(withdrawal_batch_lines),
        [
            {"tenant_id": uow.tenant, "batch_id": batch.id, "place": place, "withdrawal_id": line}
            for place, line in enumerate(lines)
        ],
    )


async def load_batch(session: ReadSession, batch_id: UUID) -> Batch | None:
    """One batch."""
    rows = await session.conn.execute(_of_tenant(session).where(withdrawal_batches.c.id == batch_id))
    row = rows.one_or_none()
    return None if row is None else _batch(row)


async def find_batch_of(session: ReadSession, withdrawal_id: WithdrawalId) -> Batch | None:
    """The batch that a withdrawal is a line of."""
    rows = await session.conn.execute(
        _of_tenant(session)
        .join(
            withdrawal_batch_lines,
            and_(
                withdrawal_batch_lines.c.tenant_id == withdrawal_batches.c.tenant_id,
                withdrawal_batch_lines.c.batch_id == withdrawal_batches.c.id,
            ),
        )
        .where(withdrawal_batch_lines.c.withdrawal_id == withdrawal_id)
    )
    row = rows.one_or_none()
    return None if row is None else _batch(row)


async def load_line_ids(session: ReadSession, batch_id: UUID) -> list[WithdrawalId]:
    """A batch's withdrawals in the order of its document."""
    rows = await session.conn.execute(
        select(withdrawal_batch_lines.c.withdrawal_id)
        .where(
            withdrawal_batch_lines.c.tenant_id == session.tenant,
            withdrawal_batch_lines.c.batch_id == batch_id,
        )
        .order_by(withdrawal_batch_lines.c.place)
    )
    return [WithdrawalId(found) for found in rows.scalars()]


async def load_page(
    session: ReadSession, after: UUID | None, limit: int, states: Sequence[str]
) -> list[Batch]:
    """Batches in order of arrival, after one of them; with a line in one of these states, or all."""
    query = _of_tenant(session)
    if states:
        lines = (
            select(withdrawal_batch_lines.c.place)
            .join(
                withdrawals,
                and_(
                    withdrawals.c.tenant_id == withdrawal_batch_lines.c.tenant_id,
                    withdrawals.c.id == withdrawal_batch_lines.c.withdrawal_id,
                ),
            )
            .where(
                withdrawal_batch_lines.c.tenant_id == session.tenant,
                withdrawal_batch_lines.c.batch_id == withdrawal_batches.c.id,
                withdrawals.c.state.in_(states),
            )
        )
        query = query.where(lines.exists())
    rows = await session.conn.execute(
        in_sequence(query, session, withdrawal_batches, after=after, limit=limit)
    )
    return [_batch(row) for row in rows]


def _of_tenant(session: ReadSession) -> Select[Any]:
    return select(withdrawal_batches).where(withdrawal_batches.c.tenant_id == session.tenant)


def _batch(row: Row[Any]) -> Batch:
    return Batch(
        id=row.id,
        document=bytes(row.document),
        digest=bytes(row.digest),
        policy_version=row.policy_version,
        initiator=row.initiator,
        expires_at=row.expires_at,
        created_at=row.created_at,
    )
