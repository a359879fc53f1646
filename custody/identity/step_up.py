"""Administrative actions ask a person for a passkey, in this very sign-in: a stolen session alone changes nothing.

A touch counts for one action, which the person has read and the passkey has signed: its method, path, body and idempotency key.
Through that key the action happens once, however often it is sent, so that a confirmation need not be used up. A touch that was
asked for without an action counts for whatever is asked in that sign-in for a few minutes.
The assertion itself is judged by whoever is given as `verify` (the code that judges approvers' passkeys, a layer above this one).
Source: Web Authentication Level 2; RFC 9470 for the idea.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
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
    UnknownStepUp,
)
from custody.identity.model import AdminPasskey, Principal, StepUp
from custody.kernel.ids import new_uuid, show_id

ANSWER_WITHIN = timedelta(minutes=2)
"""How long a person has to touch the passkey."""
READ_WITHIN = timedelta(minutes=10)
"""How long a person has to be led to an action, to read it and to touch the passkey."""
COUNTS_FOR = timedelta(minutes=5)
"""How long a touch counts."""
ACTION_BYTES_MAX = 64 * 1024
"""Longest action that a person is asked to read."""
OPEN_MAX = 50
"""Actions of one sign-in that wait to be read, so that a stolen session cannot fill the database with them."""
_ACTION_TAG = b"custody-action-v1\0"
_CHALLENGE_TAG = b"custody-step-up-v1\0"


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


async def demand(database: Database, principal: Principal, action: str, now: datetime) -> None:
    """Raises StepUpRequired unless this person confirmed this action in this sign-in; `step_up` in it is what to answer, unless
    the action is longer than a person would read or too many others wait.

    `action` is canonical JSON, the same for the same command under the same key.
    """
    digest = action_digest(action)
    async with database.read(principal.tenant) as session:
        if await store.has_step_up(session, principal.id, principal.session, digest, now):
            return
    if len(action.encode()) > ACTION_BYTES_MAX:
        raise StepUpRequired
    async with database.unit_of_work(principal.tenant) as uow:
        step = await store.find_open_step_up(uow, principal.id, principal.session, digest, now)
        if step is None:
            if await store.count_open_step_ups(uow, principal.id, principal.session, now) >= OPEN_MAX:
                raise StepUpRequired
            step = _new(principal, now + READ_WITHIN, action)
            await store.insert_step_up(uow, step, digest)
    raise StepUpRequired(step_up=show_id("stu", step.id))


async def ask(uow: UnitOfWork, principal: Principal, now: datetime) -> tuple[StepUp, list[AdminPasskey]]:
    """A challenge, and the passkeys that may answer it. Raises UnknownPasskey when the person has none."""
    known = await store.load_passkeys(uow, principal.subject)
    if not known:
        raise UnknownPasskey("you have no passkey yet")
    step = _new(principal, now + ANSWER_WITHIN, None)
    await store.insert_step_up(uow, step)
    return step, known


async def find(
    session: ReadSession, principal: Principal, step_id: UUID
) -> tuple[StepUp, str, list[AdminPasskey]]:
    """What this person was asked to confirm in this sign-in, the action, and the passkeys that may. Raises UnknownStepUp."""
    step = await store.load_step_up(session, step_id)
    if step is None or step.action is None or not _asked(step, principal):
        raise UnknownStepUp
    return step, step.action, await store.load_passkeys(session, principal.subject)


async def answer(
    uow: UnitOfWork, principal: Principal, step_id: UUID, given: Answer, verify: Verify, now: datetime
) -> datetime:
    """Count a touch. Returns until when. Each challenge counts once. Raises StepUpRefused."""
    step = await store.load_step_up(uow, step_id, lock=True)
    if step is None or not _asked(step, principal):
        raise StepUpRefused(reason="unknown_challenge")
    if step.done or step.expires_at <= now:
        raise StepUpRefused(reason="challenge_over")
    passkey = await store.lock_passkey(uow, principal.subject, given.credential_id)
    if passkey is None:
        raise StepUpRefused(reason="wrong_credential")
    counter = verify(passkey, given, challenge_of(step))
    if (counter or passkey.counter) and counter <= passkey.counter:
        raise StepUpRefused(reason="counter_not_above")
    await store.count_passkey(uow, passkey.id, counter)
    until = now + COUNTS_FOR
    await store.finish_step_up(uow, step.id, passkey.id, until)
    grant = _grant(principal.subject)
    await tell(uow, principal.subject, "step_up", "changed", passkey.id, grant, _named(step))
    return until


def action_digest(action: str) -> bytes:
    """SHA-256 of an action, which no other kind of document can have."""
    return hashlib.sha256(_ACTION_TAG + action.encode()).digest()


def challenge_of(step: StepUp) -> bytes:
    """What the passkey signs: of an action, its digest together with bytes that were never asked before."""
    if step.action is None:
        return step.challenge
    return hashlib.sha256(_CHALLENGE_TAG + step.challenge + action_digest(step.action)).digest()


async def enrol(
    uow: UnitOfWork, principal: Principal, passkey: AdminPasskey, action: str, now: datetime
) -> AdminPasskey:
    """A passkey for oneself: the first with a second factor at the identity provider, any further with one that holds.

    Whoever has let go of their last has no first any more: else a stolen sign-in would let go of all, and bring its own.
    Raises EnrolmentRefused, StepUpRequired, PasskeyTaken.
    """
    known = await store.load_passkeys(uow, principal.subject)
    if not known and not (principal.mfa and await store.never_had_passkey(uow, principal.subject)):
        raise EnrolmentRefused
    digest = action_digest(action)
    if known and not await store.has_step_up(uow, principal.id, principal.session, digest, now):
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


def _new(principal: Principal, until: datetime, action: str | None) -> StepUp:
    return StepUp(
        id=new_uuid(),
        principal_id=principal.id,
        session=principal.session,
        challenge=secrets.token_bytes(32),
        expires_at=until,
        done=False,
        action=action,
    )


def _asked(step: StepUp, principal: Principal) -> bool:
    """Whether it was this person, in this sign-in, who was asked."""
    return (step.principal_id, step.session) == (principal.id, principal.session)


def _named(step: StepUp) -> Mapping[str, object]:
    """What the audit log says of the action; its body is said by the action's own entry."""
    if step.action is None:
        return {}
    said = json.loads(step.action)
    return {
        "method": said["method"],
        "path": said["path"],
        "action_sha256": action_digest(step.action).hex(),
    }


def _grant(subject: str) -> Grant:
    return Grant(kind="passkey", subject=subject)
