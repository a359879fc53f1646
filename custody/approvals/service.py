"""Record what approvers decided, once per person and intent."""

from __future__ import annotations

from collections.abc import Collection

from custody.approvals import store
from custody.approvals.errors import DecisionExistsDifferent
from custody.db.session import ReadSession, UnitOfWork
from custody.policy.model import Decision


async def record(uow: UnitOfWork, digest: bytes, decision: Decision) -> bool:
    """Keep a decision whose signature the caller has verified. Returns whether it was new.

    Idempotent by person and digest; raises DecisionExistsDifferent when the same person has said something else. The signature
    itself may differ: what counts is the word.
    """
    if await store.insert_decision(uow, digest, decision):
        return True
    earlier = next(
        each for each in await store.load_decisions(uow, digest) if each.approver == decision.approver
    )
    if earlier.word is not decision.word:
        raise DecisionExistsDifferent(approver=decision.approver, decided=earlier.word.value)
    return False


async def list_for(session: ReadSession, digest: bytes) -> list[Decision]:
    """Everybody's decisions about an intent, oldest first."""
    return await store.load_decisions(session, digest)


async def list_for_all(session: ReadSession, digests: Collection[bytes]) -> dict[bytes, list[Decision]]:
    """Everybody's decisions about some intents, by digest, oldest first: one question for a whole page."""
    return await store.load_decisions_of(session, digests)
