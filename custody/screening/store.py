"""SQL of screening."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Row, func, insert, select

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.ids import WithdrawalId
from custody.screening.model import Answer, Finding, ListEntry, Question, Result
from custody.screening.tables import refused_addresses, screenings


async def insert_entry(uow: UnitOfWork, **values: Any) -> ListEntry:
    """Add a row to the list."""
    made = await uow.conn.execute(
        insert(refused_addresses)
        .values(tenant_id=uow.tenant, **values)
        .returning(refused_addresses.c.sequence)
    )
    (entry,) = await load_entries(uow, made.scalar_one() - 1, 1)
    return entry


async def load_last(session: ReadSession, namespace: str, account: str) -> ListEntry | None:
    """The row about an account that is in force."""
    rows = await session.conn.execute(
        select(refused_addresses)
        .where(*_about(session, namespace, account))
        .order_by(refused_addresses.c.sequence.desc())
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else _entry(row)


async def load_judgement(session: ReadSession, namespace: str, account: str) -> tuple[int, ListEntry | None]:
    """The list's version (its highest sequence, 0 while it is empty) and the row that refuses the account now, if any."""
    rows = await session.conn.execute(
        select(
            select(func.coalesce(func.max(refused_addresses.c.sequence), 0))
            .where(refused_addresses.c.tenant_id == session.tenant)
            .scalar_subquery(),
            select(refused_addresses.c.word)
            .where(*_about(session, namespace, account))
            .order_by(refused_addresses.c.sequence.desc())
            .limit(1)
            .scalar_subquery(),
        )
    )
    version, word = rows.one()
    refuses = word == "refused"
    return int(version), await load_last(session, namespace, account) if refuses else None


async def load_entries(session: ReadSession, after: int, limit: int) -> list[ListEntry]:
    """Rows of the list, oldest first."""
    rows = await session.conn.execute(
        select(refused_addresses)
        .where(refused_addresses.c.tenant_id == session.tenant, refused_addresses.c.sequence > after)
        .order_by(refused_addresses.c.sequence)
        .limit(limit)
    )
    return [_entry(row) for row in rows]


async def insert_result(
    uow: UnitOfWork,
    withdrawal_id: WithdrawalId,
    screener: str,
    question: Question,
    answer: Answer,
    list_version: int | None,
) -> None:
    """Keep an answer."""
    await uow.conn.execute(
        insert(screenings).values(
            tenant_id=uow.tenant,
            withdrawal_id=withdrawal_id,
            screener=screener,
            reference=question.reference,
            chain=question.chain,
            account=question.account,
            finding=answer.finding.value,
            detail=answer.detail,
            list_version=list_version,
        )
    )


async def load_results(session: ReadSession, ids: Collection[WithdrawalId]) -> list[Result]:
    """What was said for these withdrawals, oldest first."""
    rows = await session.conn.execute(
        select(screenings)
        .where(screenings.c.tenant_id == session.tenant, screenings.c.withdrawal_id.in_(list(ids)))
        .order_by(screenings.c.sequence)
    )
    return [_result(row) for row in rows]


def _about(session: ReadSession, namespace: str, account: str) -> tuple[ColumnElement[bool], ...]:
    return (
        refused_addresses.c.tenant_id == session.tenant,
        refused_addresses.c.namespace == namespace,
        refused_addresses.c.account == account,
    )


def _entry(row: Row[Any]) -> ListEntry:
    return ListEntry(
        sequence=row.sequence,
        namespace=row.namespace,
        account=row.account,
        word=row.word,
        source=row.source,
        note=row.note,
        actor=row.actor,
        created_at=row.created_at,
    )


def _result(row: Row[Any]) -> Result:
    return Result(
        withdrawal_id=WithdrawalId(row.withdrawal_id),
        screener=row.screener,
        reference=row.reference,
        finding=Finding(row.finding),
        detail=row.detail,
        list_version=row.list_version,
        created_at=row.created_at,
    )
