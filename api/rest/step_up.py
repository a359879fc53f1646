"""Confirm with a passkey before an administrative action, and look after one's own passkeys. For people; machines have roles."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Request
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, authenticate
from api.confirmation import action_of
from api.deps import app_of
from api.idempotency import Command, IdempotencyKey
from api.rest.shapes import COMMAND_PROBLEMS, READ_PROBLEMS, Empty, In, Out, PageOut, problems, show_time
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.identity import step_up
from custody.identity.errors import MissingScope, PasskeyTaken, StepUpRefused, StepUpRequired
from custody.identity.model import AdminPasskey, Kind, Principal, StepUp
from custody.identity.step_up import Answer
from custody.kernel.ids import new_uuid, parse_id, show_id
from custody.policy import service as policies
from custody.policy.errors import PolicyUnknown
from custody.policy.model import Assertion, PasskeyTerms
from custody.signing.errors import InvalidDecision
from custody.signing.passkeys import verify_answer

router = APIRouter(prefix="/v1", tags=["access"], route_class=StrictRoute)

StepUpPath = Annotated[str, Path(max_length=40, examples=["stu_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
PasskeyPath = Annotated[str, Path(max_length=40, examples=["psk_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
_BASE64URL = r"^[A-Za-z0-9_-]+$"


async def person(request: Request, principal: Annotated[Principal, Depends(authenticate)]) -> Caller:
    """A caller who can touch a passkey. Raises MissingScope for machines and customers."""
    if principal.kind is not Kind.PERSON:
        raise MissingScope(permission="for people only")
    return Caller(app=app_of(request), principal=principal)


async def persons_command(
    request: Request, caller: Annotated[Caller, Depends(person)], key: IdempotencyKey
) -> Command:
    """The same, under a key."""
    return Command(app=caller.app, principal=caller.principal, key=key, request=request)


Person = Annotated[Caller, Depends(person)]
PersonsCommand = Annotated[Command, Depends(persons_command)]


class StepUpOptionsOut(Out):
    """What the browser is asked for: `navigator.credentials.get` with user verification required."""

    id: str
    challenge: str = Field(description="base64url; the passkey signs it.")
    credentials: list[str] = Field(description="Credential ids of your passkeys.")
    rp_id: str
    expires_at: str


class StepUpIn(In):
    """What the browser hands back, each in base64url without padding."""

    id: str = Field(max_length=40, examples=["stu_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    credential_id: str = Field(pattern=_BASE64URL, max_length=1364, examples=["q83vEjRWeJA"])
    authenticator_data: str = Field(pattern=_BASE64URL, max_length=50, examples=["A" * 50])
    client_data_json: str = Field(
        pattern=_BASE64URL, max_length=2731, examples=["eyJ0eXBlIjoid2ViYXV0aG4uZ2V0In0"]
    )
    signature: str = Field(pattern=_BASE64URL, max_length=700, examples=["MEUCIQ"])


class OwnCredentialOut(Out):
    """A passkey of yours that may answer."""

    credential_id: str
    rp_id: str


class ActionOut(Out):
    """An administrative action of yours that waits for your passkey. The page `/confirm/{id}` shows it and asks for it."""

    id: str
    state: Literal["asked", "confirmed", "over"] = Field(
        description="`confirmed`: the same call with the same `Idempotency-Key` goes through, until `expires_at`."
    )
    action: str = Field(
        description="The call in canonical JSON: `method`, `path`, `body`, the idempotency `key`, who asks, and what it does."
    )
    action_sha256: str = Field(description="SHA-256 of `custody-action-v1`, a zero byte and `action`.")
    nonce: str = Field(
        description="base64url. The passkey signs SHA-256 of `custody-step-up-v1`, a zero byte, this, and the action's digest."
    )
    passkeys: list[OwnCredentialOut]
    expires_at: str


class StepUpOut(Out):
    """What was confirmed may be done: the one action, or whatever is asked in this sign-in."""

    expires_at: str


class PasskeyIn(In):
    """A passkey as the page `/approvers/new` spells it."""

    type: Literal["webauthn"] = Field(default="webauthn", examples=["webauthn"])
    algorithm: Literal["ES256", "EdDSA", "RS256"] = Field(examples=["ES256"])
    public_key: str = Field(pattern=r"^(?:[0-9a-f]{2}){32,512}$", examples=["ab" * 32])
    credential_id: str = Field(pattern=_BASE64URL, max_length=1364, examples=["q83vEjRWeJA"])
    rp_id: str = Field(min_length=1, max_length=253, pattern=r"^[\x21-\x7e]+$", examples=["custody.example"])
    origins: list[str] = Field(min_length=1, max_length=4, examples=[["https://custody.example"]])
    device_bound: bool = Field(examples=[True])


class PasskeyOut(Out):
    """A passkey of yours."""

    id: str
    algorithm: str
    credential_id: str
    rp_id: str
    origins: list[str]
    device_bound: bool


@router.post("/step-up/options", response_model=StepUpOptionsOut, responses=problems(400, 404, 413, 415))
async def ask_step_up(caller: Person, _: Empty | None = None) -> StepUpOptionsOut:
    """Ask for a challenge that opens every administrative action. It can be answered once, within two minutes, in this sign-in.

    A single action is confirmed by itself, at the `confirm_url` of its refusal: prefer that.
    """
    async with caller.app.db.unit_of_work(caller.principal.tenant) as uow:
        step, known = await step_up.ask(uow, caller.principal, caller.app.clock.now())
    return StepUpOptionsOut(
        id=show_id("stu", step.id),
        challenge=_show(step.challenge),
        credentials=[passkey.credential_id for passkey in known],
        rp_id=known[0].rp_id,
        expires_at=show_time(step.expires_at),
    )


@router.get("/step-up/{step_up_id}", responses=READ_PROBLEMS)
async def show_action(step_up_id: StepUpPath, caller: Person) -> ActionOut:
    """An action that was refused for want of your passkey, in this sign-in: the end of its `confirm_url` is the id."""
    wanted = parse_id("stu", step_up_id)
    async with caller.read() as session:
        step, action, known = await step_up.find(session, caller.principal, wanted)
    return ActionOut(
        id=show_id("stu", step.id),
        state=_state(step, caller.app.clock.now()),
        action=action,
        action_sha256=step_up.action_digest(action).hex(),
        nonce=_show(step.challenge),
        passkeys=[OwnCredentialOut(credential_id=each.credential_id, rp_id=each.rp_id) for each in known],
        expires_at=show_time(step.expires_at),
    )


@router.post("/step-up", response_model=StepUpOut, responses=problems(400, 413, 415))
async def answer_step_up(body: StepUpIn, caller: Person) -> StepUpOut:
    """Answer a challenge. What was confirmed may be done for five minutes, in this sign-in."""
    given = Answer(
        credential_id=body.credential_id,
        authenticator_data=_parse(body.authenticator_data),
        client_data_json=_parse(body.client_data_json),
        signature=_parse(body.signature),
    )
    step_id = parse_id("stu", body.id)
    async with caller.app.db.unit_of_work(caller.principal.tenant) as uow:
        until = await step_up.answer(uow, caller.principal, step_id, given, verify, caller.app.clock.now())
    return StepUpOut(expires_at=show_time(until))


@router.get("/admin-passkeys", responses=READ_PROBLEMS)
async def list_admin_passkeys(caller: Person) -> PageOut[PasskeyOut]:
    """Your passkeys."""
    async with caller.read() as session:
        found = await step_up.list_own(session, caller.principal)
    return PageOut(data=[show_passkey(each) for each in found], next_cursor=None)


@router.post("/admin-passkeys", status_code=201, response_model=PasskeyOut, responses=COMMAND_PROBLEMS)
async def register_admin_passkey(body: PasskeyIn, command: PersonsCommand) -> Response:
    """Register a passkey for yourself: the first needs a sign-in with a second factor, any further one a passkey that holds.

    It must not be one with which you approve withdrawals: whoever runs this server chooses what a step-up signs.
    """
    wanted = AdminPasskey(
        id=new_uuid(),
        subject=command.principal.subject,
        algorithm=body.algorithm,
        public_key=body.public_key,
        credential_id=body.credential_id,
        rp_id=body.rp_id,
        origins=tuple(body.origins),
        device_bound=body.device_bound,
        counter=0,
    )

    action, now = await action_of(command.request, command.principal), command.app.clock.now()

    async def effect(uow: UnitOfWork) -> PasskeyOut:
        await _refuse_approvers(uow, wanted.credential_id)
        return show_passkey(await step_up.enrol(uow, command.principal, wanted, action, now))

    try:
        return await command.run(effect)
    except StepUpRequired:
        # What the refused transaction would have written down is gone with it.
        await step_up.demand(command.app.db, command.principal, action, now)
        raise


@router.post(
    "/admin-passkeys/{passkey_id}/revoke", response_model=PageOut[PasskeyOut], responses=COMMAND_PROBLEMS
)
async def revoke_admin_passkey(
    passkey_id: PasskeyPath, command: PersonsCommand, _: Empty | None = None
) -> Response:
    """Let one of your passkeys count no more, and with it what it confirmed. Answers with those that are left."""
    wanted = parse_id("psk", passkey_id)

    async def effect(uow: UnitOfWork) -> PageOut[PasskeyOut]:
        await step_up.revoke(uow, command.principal, wanted)
        left = await step_up.list_own(uow, command.principal)
        return PageOut(data=[show_passkey(each) for each in left], next_cursor=None)

    return await command.run(effect, status=200)


def verify(passkey: AdminPasskey, given: Answer, challenge: bytes) -> int:
    """Judge an assertion as approvers' are judged. Raises StepUpRefused with the signer's reason."""
    try:
        return verify_answer(
            subject=passkey.subject,
            algorithm=passkey.algorithm,
            public_key=passkey.public_key,
            terms=PasskeyTerms(
                credential_id=passkey.credential_id,
                rp_id=passkey.rp_id,
                origins=passkey.origins,
                device_bound=passkey.device_bound,
            ),
            assertion=Assertion(
                credential_id=given.credential_id,
                authenticator_data=given.authenticator_data,
                client_data_json=given.client_data_json,
            ),
            signature=given.signature,
            challenge=challenge,
        )
    except InvalidDecision as error:
        raise StepUpRefused(reason=error.values.get("reason")) from error


def show_passkey(passkey: AdminPasskey) -> PasskeyOut:
    """A passkey as responses carry it."""
    return PasskeyOut(
        id=show_id("psk", passkey.id),
        algorithm=passkey.algorithm,
        credential_id=passkey.credential_id,
        rp_id=passkey.rp_id,
        origins=list(passkey.origins),
        device_bound=passkey.device_bound,
    )


def _state(step: StepUp, now: datetime) -> Literal["asked", "confirmed", "over"]:
    if step.expires_at <= now:
        return "over"
    return "confirmed" if step.done else "asked"


async def _refuse_approvers(uow: UnitOfWork, credential_id: str) -> None:
    try:
        policy = await policies.current(uow)
    except PolicyUnknown:
        return
    taken = {
        key.passkey.credential_id
        for approver in policy.approvers
        for key in approver.keys
        if key.passkey is not None
    }
    if credential_id in taken:
        raise PasskeyTaken("this passkey approves withdrawals")


def _show(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _parse(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise StepUpRefused(reason="malformed_assertion") from error
