"""Administrative actions ask a person for a passkey, just now and in this very sign-in: a stolen session alone changes nothing.

The assertion itself is judged by whoever is given as `verify` (the code that judges approvers' passkeys, a layer above this one).
Source: Web Authentication Level 2; RFC 9470 for the idea.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.exc import IntegrityError

from custody.db.session import Database, ReadSession, UnitOfWork
from custody.identity import people_store as store
from custody.identity.api_keys import Grant, tell
from custody.identity.errors import (
    EnrolmentRefused,
    PasskeyTaken,
    StepUpRefused,
    StepUpRequired,
    UnknownPasskey,
)
from custody.identity.model import AdminPasskey, Principal, StepUp
from custody.kernel.ids import new_uuid

ANSWER_WITHIN = timedelta(minutes=2)
"""How long a person has to touch the passkey."""
COUNTS_FOR = timedelta(minutes=5)
"""How long a touch counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the browser hands back."""

    credential_id: str
    """base64url without padding."""
    authenticator_data: bytes
    client_data_json: bytes
    signature: bytes


Verify = Callable[[AdminPasskey, Answer, bytes], int]
"""Judges an answer to a challenge and returns the passkey's counter. Raises StepUpRefused."""


async def demand(database: Database, principal: Principal, now: datetime) -> None:
    """Raises StepUpRequired unless this person touched a passkey in this sign-in a moment ago."""
    async with database.read(principal.tenant) as session:
        if not await store.has_step_up(session, principal.id, principal.session, now):
            raise StepUpRequired


async def ask(uow: UnitOfWork, principal: Principal, now: datetime) -> tuple[StepUp, list[AdminPasskey]]:
    """A challenge, and the passkeys that may answer it. Raises UnknownPasskey when the person has none."""
    known = await store.load_passkeys(uow, principal.subject)
    if not known:
        raise UnknownPasskey("you have no passkey yet")
    step = StepUp(
        id=new_uuid(),
        principal_id=principal.id,
        session=principal.session,
        challenge=secrets.token_bytes(32),
        expires_at=now + ANSWER_WITHIN,
        done=False,
    )
    await store.insert_step_up(uow, step)
    return step, known


async def answer(
    uow: UnitOfWork, principal: Principal, step_id: UUID, given: Answer, verify: Verify, now: datetime
) -> datetime:
    """Count a touch. Returns until when. Each challenge counts once. Raises StepUpRefused."""
    step = await store.lock_step_up(uow, step_id)
    if step is None or (step.principal_id, step.session) != (principal.id, principal.session):
        raise StepUpRefused(reason="unknown_challenge")
    if step.done or step.expires_at <= now:
        raise StepUpRefused(reason="challenge_over")
    passkey = await store.lock_passkey(uow, principal.subject, given.credential_id)
    if passkey is None:
        raise StepUpRefused(reason="wrong_credential")
    counter = verify(passkey, given, step.challenge)
    if (counter or passkey.counter) and counter <= passkey.counter:
        raise StepUpRefused(reason="counter_not_above")
    await store.count_passkey(uow, passkey.id, counter)
    until = now + COUNTS_FOR
    await store.finish_step_up(uow, step.id, passkey.id, until)
    await tell(uow, principal.subject, "step_up", "changed", passkey.id, _grant(principal.subject))
    return until


async def enrol(uow: UnitOfWork, principal: Principal, passkey: AdminPasskey, now: datetime) -> AdminPasskey:
    """A passkey for oneself: the first with a second factor at the identity provider, any further with one that holds.

    Raises EnrolmentRefused, StepUpRequired, PasskeyTaken.
    """
    known = await store.load_passkeys(uow, principal.subject)
    if not known and not principal.mfa:
        raise EnrolmentRefused
    if known and not await store.has_step_up(uow, principal.id, principal.session, now):
        raise StepUpRequired
    return await add(uow, principal.subject, passkey)


async def add(uow: UnitOfWork, actor: str, passkey: AdminPasskey) -> AdminPasskey:
    """Write a passkey that the caller vouches for. Raises PasskeyTaken."""
    try:
        await store.insert_passkey(uow, passkey)
    except IntegrityError as error:
        raise PasskeyTaken from error
    await tell(uow, actor, "register", "granted", passkey.id, _grant(passkey.subject))
    return passkey


async def revoke(uow: UnitOfWork, principal: Principal, passkey_id: UUID) -> None:
    """Let one of one's own passkeys count no more, and with it what it confirmed. Raises UnknownPasskey."""
    if not await store.revoke_passkey(uow, principal.subject, passkey_id):
        raise UnknownPasskey
    await tell(uow, principal.subject, "revoke", "revoked", passkey_id, _grant(principal.subject))


async def list_own(session: ReadSession, principal: Principal) -> list[AdminPasskey]:
    """A person's own passkeys."""
    return await store.load_passkeys(session, principal.subject)


def _grant(subject: str) -> Grant:
    return Grant(kind="passkey", subject=subject)
