"""Where a tenant wants its events sent. A secret is in the answer that made it and nowhere else: not in the record that repeats
answers, so that a repeated call is answered without it."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    Cursor,
    Empty,
    In,
    Limit,
    Out,
    PageOut,
    show_time,
)
from api.strict_json import StrictRoute
from custody.bootstrap import App
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.ids import parse_id, show_id
from custody.webhooks import service as webhooks
from custody.webhooks.errors import WebhooksNotConfigured
from custody.webhooks.guard import URL_MAX, Rules, check_url
from custody.webhooks.model import DESCRIPTION_MAX, FILTERS_MAX, OVERLAP_DEFAULT_S, OVERLAP_MAX_S, Endpoint
from custody.webhooks.sealed import build_box
from custody.webhooks.sender import rules_of

router = APIRouter(prefix="/v1/webhook-endpoints", tags=["webhooks"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("webhooks:read"))]
Operate = Annotated[Command, Depends(commands("webhooks:write"))]

EndpointPath = Annotated[str, Path(max_length=40, examples=["whe_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
UrlText = Annotated[
    str,
    Field(
        min_length=1,
        max_length=URL_MAX,
        description="https, a public host, no credentials and no fragment. Redirects are not followed.",
        examples=["https://receiver.example/hooks/custody"],
    ),
]
TypesList = Annotated[
    list[Annotated[str, Field(max_length=64)]],
    Field(
        min_length=1,
        max_length=FILTERS_MAX,
        description="Event types, `object.*` for all of one kind, `*` for all.",
        examples=[["withdrawal.*", "deposit.credited"]],
    ),
]
Description = Annotated[str, Field(max_length=DESCRIPTION_MAX, examples=["Booking service"])]


class EndpointIn(In):
    """An endpoint to add."""

    url: UrlText
    types: TypesList
    description: Description = ""


class EndpointChangeIn(In):
    """What shall be different; what is absent stays."""

    url: UrlText | None = None
    types: TypesList | None = Field(default=None, examples=[["withdrawal.settled", "payout.*"]])
    description: Description | None = None


class RotateIn(In):
    """How the old secret ends."""

    overlap_s: int = Field(
        examples=[3600],
        default=OVERLAP_DEFAULT_S,
        ge=0,
        le=OVERLAP_MAX_S,
        description="For so long both secrets sign, each with a signature of its own; at 0 the old one ends now.",
    )


class ReplayIn(In):
    """Which events to send again."""

    first_sequence: int = Field(ge=1, le=2**62, examples=[7421])
    last_sequence: int = Field(ge=1, le=2**62, description="At most 4999 above the first.", examples=[7600])
    delivered: bool = Field(default=False, description="Those that had arrived as well.")


class EndpointOut(Out):
    """An endpoint as it stands."""

    id: str = Field(examples=["whe_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    url: str
    types: list[str]
    description: str
    state: Literal["active", "disabled", "deleted"]
    reason: Literal["operator", "gone", "exhausted"] | None = Field(
        description="Why it is off: an operator, its own answer 410, or a schedule used up while nothing got through."
    )
    failures: int = Field(description="Failed attempts in a row.")
    circuit_open_until: str | None = Field(
        description="After five failures in a row nothing is sent before this moment; then one probe at a time."
    )
    delivered: int = Field(description="Attempts that succeeded, ever.")
    failed: int = Field(description="Attempts that failed, ever.")
    old_secret_until: str | None = Field(description="Until then the secret before this one signs as well.")
    created_at: str
    changed_at: str


class EndpointSecretOut(EndpointOut):
    """An endpoint and its new secret."""

    secret: str | None = Field(
        description="`whsec_` and base64. Shown once: null when the same call is repeated; rotate when it was lost.",
        examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw0123456789A="],
    )


class ReplayOut(Out):
    """What came of it."""

    queued: int = Field(description="Deliveries that wait to be sent now.")


@router.post("", status_code=201, response_model=EndpointSecretOut, responses=COMMAND_PROBLEMS)
async def create_webhook_endpoint(body: EndpointIn, command: Operate) -> Response:
    """Add an endpoint. It is sent the events that happen from now on."""
    box, rules = build_box(command.app.settings.webhooks), _rules(command.app)
    endpoint_id = command.derived_id("webhook_endpoint")
    with at("/url"):
        check_url(body.url, rules)
    with at("/types"):
        webhooks.check_filters(body.types)
    made: list[str] = []

    async def effect(uow: UnitOfWork) -> None:
        _, secret = await webhooks.create_endpoint(
            uow,
            command.principal.subject,
            endpoint_id,
            url=body.url,
            description=body.description,
            types=body.types,
            rules=rules,
            box=box,
        )
        made.append(secret)

    replayed = await command.accept(effect)
    return await _with_secret(command, endpoint_id, made, 201, replayed=replayed)


@router.get("", responses=READ_PROBLEMS)
async def list_webhook_endpoints(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[EndpointOut]:
    """Endpoints, deleted ones too."""
    after = parse_id_cursor("webhook-endpoints", cursor)
    async with caller.read() as session:
        page = page_of(await webhooks.list_endpoints(session, after, limit + 1), limit)
        data = [await _show(session, caller.app, endpoint) for endpoint in page.rows]
    return PageOut(
        data=data, next_cursor=next_cursor(page, lambda row: show_cursor("webhook-endpoints", row.id))
    )


@router.get("/{endpoint_id}", responses=READ_PROBLEMS)
async def get_webhook_endpoint(endpoint_id: EndpointPath, caller: Reader) -> EndpointOut:
    """One endpoint."""
    async with caller.read() as session:
        return await _show(session, caller.app, await webhooks.get_endpoint(session, _id(endpoint_id)))


@router.patch("/{endpoint_id}", status_code=200, response_model=EndpointOut, responses=COMMAND_PROBLEMS)
async def change_webhook_endpoint(
    endpoint_id: EndpointPath, body: EndpointChangeIn, command: Operate
) -> Response:
    """Change where it is, what it is sent, or what it is called. What waits already goes to the new URL."""
    wanted, rules = _id(endpoint_id), _rules(command.app)
    if body.url is not None:
        with at("/url"):
            check_url(body.url, rules)
    with at("/types"):
        webhooks.check_filters(body.types or ())

    async def effect(uow: UnitOfWork) -> EndpointOut:
        changed = await webhooks.change_endpoint(
            uow,
            command.principal.subject,
            wanted,
            url=body.url,
            description=body.description,
            types=body.types,
            rules=rules,
        )
        return await _show(uow, command.app, changed)

    return await command.run(effect, status=200)


@router.post(
    "/{endpoint_id}/rotate-secret",
    status_code=200,
    response_model=EndpointSecretOut,
    responses=COMMAND_PROBLEMS,
)
async def rotate_webhook_secret(endpoint_id: EndpointPath, body: RotateIn, command: Operate) -> Response:
    """Make a new secret. For a while the old one signs as well, so that the receiver can change without losing anything."""
    wanted, box = _id(endpoint_id), build_box(command.app.settings.webhooks)
    made: list[str] = []

    async def effect(uow: UnitOfWork) -> None:
        _, secret = await webhooks.rotate_secret(
            uow,
            command.principal.subject,
            wanted,
            overlap_s=body.overlap_s,
            now=command.app.clock.now(),
            box=box,
        )
        made.append(secret)

    replayed = await command.accept(effect)
    return await _with_secret(command, wanted, made, 200, replayed=replayed)


@router.post(
    "/{endpoint_id}/disable", status_code=200, response_model=EndpointOut, responses=COMMAND_PROBLEMS
)
async def disable_webhook_endpoint(
    endpoint_id: EndpointPath, command: Operate, _: Empty | None = None
) -> Response:
    """Send nothing more. What waits is abandoned, and can be replayed later."""
    wanted = _id(endpoint_id)

    async def effect(uow: UnitOfWork) -> EndpointOut:
        return await _show(uow, command.app, await webhooks.disable(uow, command.principal.subject, wanted))

    return await command.run(effect, status=200)


@router.post("/{endpoint_id}/enable", status_code=200, response_model=EndpointOut, responses=COMMAND_PROBLEMS)
async def enable_webhook_endpoint(
    endpoint_id: EndpointPath, command: Operate, _: Empty | None = None
) -> Response:
    """Send what happens from now on. What was missed is sent when a replay is asked for."""
    wanted = _id(endpoint_id)

    async def effect(uow: UnitOfWork) -> EndpointOut:
        return await _show(uow, command.app, await webhooks.enable(uow, command.principal.subject, wanted))

    return await command.run(effect, status=200)


@router.delete("/{endpoint_id}", status_code=200, response_model=EndpointOut, responses=COMMAND_PROBLEMS)
async def delete_webhook_endpoint(endpoint_id: EndpointPath, command: Operate) -> Response:
    """Switch it off for good. Its deliveries stay to be looked at."""
    wanted = _id(endpoint_id)

    async def effect(uow: UnitOfWork) -> EndpointOut:
        now = command.app.clock.now()
        return await _show(
            uow, command.app, await webhooks.delete(uow, command.principal.subject, wanted, now)
        )

    return await command.run(effect, status=200)


@router.post("/{endpoint_id}/replay", status_code=200, response_model=ReplayOut, responses=COMMAND_PROBLEMS)
async def replay_webhook_events(endpoint_id: EndpointPath, body: ReplayIn, command: Operate) -> Response:
    """Send the events of a range that this endpoint wants and has not got: never sent, exhausted or abandoned."""
    wanted = _id(endpoint_id)

    async def effect(uow: UnitOfWork) -> ReplayOut:
        queued = await webhooks.replay_range(
            uow,
            command.principal.subject,
            wanted,
            first=body.first_sequence,
            last=body.last_sequence,
            delivered=body.delivered,
            now=command.app.clock.now(),
        )
        return ReplayOut(queued=queued)

    return await command.run(effect, status=200)


def _id(text: str) -> UUID:
    return parse_id("whe", text)


def _rules(app: App) -> Rules:
    if app.settings.webhooks is None:
        raise WebhooksNotConfigured
    return rules_of(app.settings.webhooks)


async def _with_secret(
    command: Command, endpoint_id: UUID, made: list[str], status: int, *, replayed: bool
) -> Response:
    async with command.read() as session:
        shown = await _show(session, command.app, await webhooks.get_endpoint(session, endpoint_id))
    answer = EndpointSecretOut(**shown.model_dump(), secret=made[0] if made else None)
    return command.answer(answer, status, replayed=replayed)


async def _show(session: ReadSession, app: App, endpoint: Endpoint) -> EndpointOut:
    until = await webhooks.old_secret_until(session, endpoint.id, app.clock.now())
    return EndpointOut(
        id=show_id("whe", endpoint.id),
        url=endpoint.url,
        types=list(endpoint.types),
        description=endpoint.description,
        state=endpoint.state,
        reason=endpoint.reason.value or None,
        failures=endpoint.failures,
        circuit_open_until=None if endpoint.circuit_until is None else show_time(endpoint.circuit_until),
        delivered=endpoint.delivered,
        failed=endpoint.failed,
        old_secret_until=None if until is None else show_time(until),
        created_at=show_time(endpoint.created_at),
        changed_at=show_time(endpoint.changed_at),
    )
