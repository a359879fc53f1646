"""SQL of signed decisions."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from custody.approvals.tables import approvals
from custody.db.session import ReadSession, UnitOfWork
from custody.policy.model import Decision, Word


async def insert_decision(uow: UnitOfWork, digest: bytes, decision: Decision) -> bool:
    """Keep a decision. Returns False when this person has decided about this intent before."""
    rows = await uow.conn.execute(
        insert(approvals)
        .values(
            tenant_id=uow.tenant,
            digest=digest,
            approver=decision.approver,
            public_key=decision.public_key,
            word=decision.word.value,
            signature=decision.signature,
        )
        .on_conflict_do_nothing()
        .returning(approvals.c.approver)
    )
    return rows.one_or_none() is not None


async def load_decisions(session: ReadSession, digest: bytes) -> list[Decision]:
    """All decisions about an intent, oldest first."""
    return (await load_decisions_of(session, [digest])).get(digest, [])


async def load_decisions_of(session: ReadSession, digests: Collection[bytes]) -> dict[bytes, list[Decision]]:
    """All decisions about some intents, by digest, oldest first."""
    rows = await session.conn.execute(
        select(approvals)
        .where(approvals.c.tenant_id == session.tenant, approvals.c.digest.in_(list(digests)))
        .order_by(approvals.c.sequence)
    )
    found: dict[bytes, list[Decision]] = {}
    for row in rows:
        decision = Decision(
            approver=row.approver, public_key=row.public_key, word=Word(row.word), signature=row.signature
        )
        found.setdefault(bytes(row.digest), []).append(decision)
    return found
