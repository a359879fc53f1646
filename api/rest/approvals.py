"""Approvals: what treasury approvers look at before they sign, and where their signed decisions arrive.

An approval has the id of its withdrawal. Its intent is given as the canonical bytes themselves: the approver's tool decodes and
hashes them by itself and signs what it computed, so that this API cannot show one thing and have another signed.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    Cursor,
    In,
    Limit,
    Out,
    PageOut,
    show_time,
)
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.kernel.ids import WithdrawalId, parse_id, show_id
from custody.policy.model import Approver, Assertion, Decision, Verdict, Word
from custody.signing.errors import InvalidDecision
from custody.withdrawals import service as withdrawals
from custody.withdrawals import voids
from custody.withdrawals.model import WithdrawalView
from custody.withdrawals.transitions import WITHDRAWALS

router = APIRouter(prefix="/v1/approvals", tags=["approvals"], route_class=StrictRoute)

ApprovalReader = Annotated[Caller, Depends(requires("approvals:read"))]
Approve = Annotated[Command, Depends(commands("approvals:decide"))]

ApprovalPath = Annotated[str, Path(max_length=40, examples=["wdr_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
_HEX_KEY = r"^(?:[0-9a-f]{2}){32,512}$"
_HEX_SIGNATURE = r"^(?:[0-9a-f]{2}){1,512}$"
_BASE64URL = r"^[A-Za-z0-9_-]+$"


class AssertionIn(In):
    """What a browser hands back beside the signature, each in base64url without padding."""

    credential_id: str = Field(pattern=_BASE64URL, max_length=1364, examples=["q83vEjRWeJA"])
    authenticator_data: str = Field(pattern=_BASE64URL, max_length=50, examples=["A" * 50])
    client_data_json: str = Field(
        pattern=_BASE64URL, max_length=2731, examples=["eyJ0eXBlIjoid2ViYXV0aG4uZ2V0In0"]
    )


class DecisionIn(In):
    """An approver's signed word. The signature covers the word, the intent's digest and the approver set's version."""

    approver: str = Field(
        min_length=1, max_length=64, description="Name in the signer's policy.", examples=["alice"]
    )
    public_key: str = Field(
        pattern=_HEX_KEY, description="Key that signed, as the policy spells it.", examples=["ab" * 32]
    )
    decision: Literal["approve", "reject"]
    signature: str = Field(
        pattern=_HEX_SIGNATURE,
        description="Hexadecimal: Ed25519; r and s of P-256 with the lower s; or a passkey's, as the browser gave it.",
        examples=["cd" * 64],
    )
    webauthn: AssertionIn | None = Field(
        default=None,
        description="Of a passkey: the assertion that the signature covers. Null for other keys.",
    )


class AssertionOut(Out):
    """What a passkey's signature covers, each in base64url without padding."""

    credential_id: str
    authenticator_data: str
    client_data_json: str


class PasskeyOut(Out):
    """A passkey that may decide."""

    approver: str = Field(description="The person whose word it gives.")
    public_key: str
    credential_id: str
    rp_id: str


class DecisionOut(Out):
    """A decision that was recorded."""

    approver: str
    public_key: str
    decision: str
    signature: str
    webauthn: AssertionOut | None


class ApprovalGroupOut(Out):
    """How many people of one group must approve. A person counts in one group only."""

    group: str
    threshold: int
    missing: int


class ApprovalOut(Out):
    """What is to be decided about."""

    id: str = Field(examples=["wdr_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    withdrawal_id: str
    state: str = Field(description="The withdrawal's state.", examples=["awaiting_approval"])
    intent: str = Field(description="The canonical bytes that the signer will obey, in base64.")
    digest: str = Field(description="Of these bytes; compute it yourself before you sign. Hexadecimal.")
    fields: dict[str, str] = Field(description="The intent's fields as text, for reading only.")
    approver_set_version: int = Field(description="Part of what is signed.")
    threshold: int = Field(description="How many different people must approve.")
    missing: int = Field(description="How many are still missing.")
    groups: list[ApprovalGroupOut] = Field(description="The same by group; each has to be complete.")
    cool_down_s: int = Field(
        description="Seconds that the signer waits after the last approval; a veto still ends it."
    )
    decisions: list[DecisionOut]
    passkeys: list[PasskeyOut] = Field(
        description="Passkeys of everybody who may decide, for the browser to ask for."
    )
    expires_at: str


@router.get("", responses=READ_PROBLEMS)
async def list_approvals(
    caller: ApprovalReader,
    state: Annotated[
        Literal["pending"], Query(description="Only what still waits for approvers.")
    ] = "pending",
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[ApprovalOut]:
    """What waits for approvers, oldest first. Lines of batches are in `/v1/withdrawal-batches`."""
    after = parse_id_cursor(f"approvals-{state}", cursor)
    async with caller.read() as session:
        rows = await withdrawals.list_withdrawals(
            session,
            None if after is None else WithdrawalId(after),
            limit + 1,
            states=WITHDRAWALS.sources("approve"),
            alone=True,
        )
        page = page_of(rows, limit)
        shown = [show_approval(view) for view in await withdrawals.views(session, page.rows)]
    return PageOut(
        data=shown, next_cursor=next_cursor(page, lambda row: show_cursor(f"approvals-{state}", row.id))
    )


@router.get("/{approval_id}", responses=READ_PROBLEMS)
async def get_approval(approval_id: ApprovalPath, caller: ApprovalReader) -> ApprovalOut:
    """One intent with the decisions about it."""
    async with caller.read() as session:
        return show_approval(await withdrawals.view(session, WithdrawalId(parse_id("wdr", approval_id))))


@router.post(
    "/{approval_id}/decisions", status_code=201, response_model=ApprovalOut, responses=COMMAND_PROBLEMS
)
async def decide(approval_id: ApprovalPath, body: DecisionIn, command: Approve) -> Response:
    """Record an approver's decision. The signer checks every signature again for itself before it signs anything."""
    wanted = WithdrawalId(parse_id("wdr", approval_id))
    decision = read_decision(body)
    if (done := await command.recorded()) is not None:
        return done
    rejects, app = decision.word is Word.REJECT, command.app
    voided: Collection[WithdrawalId] = ()
    if rejects:
        tenant = command.principal.tenant
        voided = await voids.void_rejected(app.db, app.signer, tenant, wanted, decision)

    async def effect(uow: UnitOfWork) -> ApprovalOut:
        if rejects:
            await voids.reject(uow, wanted, decision, voided)
        else:
            await withdrawals.decide(uow, wanted, decision)
        return show_approval(await withdrawals.view(uow, wanted))

    answer = await command.run(effect)
    await command.wake("advance_withdrawal", wanted)
    return answer


def read_decision(body: DecisionIn) -> Decision:
    """A decision as it was sent. Raises InvalidDecision when its evidence is no base64url."""
    return Decision(
        approver=body.approver,
        public_key=body.public_key,
        word=Word(body.decision),
        signature=body.signature,
        assertion=None if body.webauthn is None else read_assertion(body.webauthn, body.approver),
    )


def read_assertion(body: AssertionIn, approver: str) -> Assertion:
    """A passkey's evidence, as requests carry it. Raises InvalidDecision."""
    return Assertion(
        credential_id=body.credential_id,
        authenticator_data=_parse_base64url(body.authenticator_data, approver),
        client_data_json=_parse_base64url(body.client_data_json, approver),
    )


def _parse_base64url(text: str, approver: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError as error:
        raise InvalidDecision(reason="malformed_assertion", approver=approver) from error


def show_assertion(assertion: Assertion) -> AssertionOut:
    """A passkey's evidence, as responses carry it."""
    return AssertionOut(
        credential_id=assertion.credential_id,
        authenticator_data=show_base64url(assertion.authenticator_data),
        client_data_json=show_base64url(assertion.client_data_json),
    )


def show_base64url(data: bytes) -> str:
    """Bytes as WebAuthn writes them."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def show_groups(verdict: Verdict) -> list[ApprovalGroupOut]:
    """Who is missing, by group."""
    return [
        ApprovalGroupOut(group=each.group, threshold=each.threshold, missing=each.missing)
        for each in verdict.counts
    ]


def show_decision(found: Decision) -> DecisionOut:
    """A decision that was recorded."""
    return DecisionOut(
        approver=found.approver,
        public_key=found.public_key,
        decision=found.word.value,
        signature=found.signature,
        webauthn=None if found.assertion is None else show_assertion(found.assertion),
    )


def show_passkeys(approvers: Sequence[Approver]) -> list[PasskeyOut]:
    """Passkeys of everybody who may decide."""
    return [
        PasskeyOut(
            approver=person.id,
            public_key=key.public_key,
            credential_id=key.passkey.credential_id,
            rp_id=key.passkey.rp_id,
        )
        for person in approvers
        for key in person.keys
        if key.passkey is not None
    ]


def show_approval(view: WithdrawalView) -> ApprovalOut:
    """An intent and where it stands, as responses carry it."""
    found = view.withdrawal
    shown = show_id("wdr", found.id)
    return ApprovalOut(
        id=shown,
        withdrawal_id=shown,
        state=found.state,
        intent=base64.b64encode(found.intent).decode(),
        digest=found.digest.hex(),
        fields=view.fields,
        approver_set_version=view.approver_set_version,
        threshold=view.verdict.threshold,
        missing=view.verdict.missing,
        groups=show_groups(view.verdict),
        cool_down_s=view.verdict.cool_down_s,
        decisions=[show_decision(each) for each in view.decisions],
        passkeys=show_passkeys(view.approvers),
        expires_at=show_time(found.expires_at),
    )
