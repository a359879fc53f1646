"""SQL of signed decisions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert

from custody.approvals.tables import approvals
from custody.db.session import ReadSession, UnitOfWork
from custody.policy.model import Assertion, Decision, Word


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
            **({} if decision.assertion is None else asdict(decision.assertion)),
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
        found.setdefault(bytes(row.digest), []).append(_decision(row))
    return found


def _decision(row: Row[Any]) -> Decision:
    return Decision(
        approver=row.approver,
        public_key=row.public_key,
        word=Word(row.word),
        signature=row.signature,
        assertion=None
        if row.credential_id is None
        else Assertion(
            credential_id=row.credential_id,
            authenticator_data=bytes(row.authenticator_data),
            client_data_json=bytes(row.client_data_json),
        ),
    )
