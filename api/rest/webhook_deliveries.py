"""The delivery log: what was sent to whom, how often, and how it ended."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
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
    Limit,
    Out,
    PageOut,
    show_time,
)
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.kernel.ids import parse_id, show_id
from custody.webhooks import service as webhooks
from custody.webhooks.model import Attempt, Delivery

router = APIRouter(prefix="/v1/webhook-deliveries", tags=["webhooks"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("webhooks:read"))]
Operate = Annotated[Command, Depends(commands("webhooks:write"))]

DeliveryPath = Annotated[str, Path(max_length=40, examples=["whd_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
DeliveryState = Literal["waiting", "sending", "delivered", "exhausted", "abandoned"]


class DeliveryOut(Out):
    """One event on its way to one endpoint."""

    id: str = Field(examples=["whd_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    endpoint_id: str = Field(examples=["whe_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    event_id: str = Field(examples=["evt_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    type: str = Field(examples=["withdrawal.settled"])
    object_id: str
    sequence: int
    state: DeliveryState
    tries: int = Field(description="Attempts of the present round; a replay begins a new one.")
    attempts: int = Field(description="Attempts ever.")
    next_attempt_at: str | None = Field(description="Not before this moment; null at an end.")
    last_status: int | None = Field(description="HTTP status of the last attempt, when there was an answer.")
    last_error: str | None = Field(
        description="Why the last attempt failed: `timeout`, `connection_failed`, `tls_failed`, `name_not_found`, "
        "`webhook_address_refused`, `webhook_url_refused`, `redirect_refused`, `status_refused`, `broken_answer`, `worker_lost`."
    )
    created_at: str
    changed_at: str


class AttemptOut(Out):
    """One attempt."""

    number: int
    outcome: Literal["delivered", "failed", "gone", "lost"] = Field(
        description="`lost`: our worker went away before it wrote down what happened; the receiver may have got it."
    )
    status: int | None
    error: str | None
    elapsed_ms: int | None
    ended_at: str


class DeliveryWithAttemptsOut(DeliveryOut):
    """A delivery and its latest attempts."""

    log: list[AttemptOut] = Field(description="The newest hundred, newest first.")


@router.get("", responses=READ_PROBLEMS)
async def list_webhook_deliveries(
    caller: Reader,
    endpoint_id: Annotated[str | None, Query(max_length=40, description="Only to this endpoint.")] = None,
    event_id: Annotated[str | None, Query(max_length=40, description="Only of this event.")] = None,
    state: Annotated[
        list[DeliveryState] | None, Query(description="Only in these states.", max_length=5)
    ] = None,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[DeliveryOut]:
    """Deliveries, newest event first."""
    before = parse_id_cursor("webhook-deliveries", cursor)
    with at("query/endpoint_id"):
        endpoint = None if endpoint_id is None else parse_id("whe", endpoint_id)
    with at("query/event_id"):
        event = None if event_id is None else parse_id("evt", event_id)
    async with caller.read() as session:
        found = await webhooks.list_deliveries(
            session, endpoint_id=endpoint, states=state or (), event_id=event, before=before, limit=limit + 1
        )
    page = page_of(found, limit)
    return PageOut(
        data=[show_delivery(each) for each in page.rows],
        next_cursor=next_cursor(page, lambda each: show_cursor("webhook-deliveries", each.id)),
    )


@router.get("/{delivery_id}", responses=READ_PROBLEMS)
async def get_webhook_delivery(delivery_id: DeliveryPath, caller: Reader) -> DeliveryWithAttemptsOut:
    """One delivery with its attempts."""
    async with caller.read() as session:
        found = await webhooks.get_delivery(session, parse_id("whd", delivery_id))
        log = await webhooks.list_attempts(session, found.id)
    return DeliveryWithAttemptsOut(
        **show_delivery(found).model_dump(), log=[show_attempt(each) for each in log]
    )


@router.post("/{delivery_id}/replay", status_code=200, response_model=DeliveryOut, responses=COMMAND_PROBLEMS)
async def replay_webhook_delivery(
    delivery_id: DeliveryPath, command: Operate, _: Empty | None = None
) -> Response:
    """Send it once more, under the same id: a receiver that keeps ids will know it."""
    wanted = parse_id("whd", delivery_id)

    async def effect(uow: UnitOfWork) -> DeliveryOut:
        now = command.app.clock.now()
        return show_delivery(await webhooks.replay(uow, command.principal.subject, wanted, now))

    return await command.run(effect, status=200)


def show_delivery(delivery: Delivery) -> DeliveryOut:
    """A delivery as responses carry it."""
    return DeliveryOut(
        id=show_id("whd", delivery.id),
        endpoint_id=show_id("whe", delivery.endpoint_id),
        event_id=show_id("evt", delivery.event_id),
        type=delivery.type,
        object_id=str(delivery.object_id),
        sequence=delivery.position,
        state=delivery.state,
        tries=delivery.tries,
        attempts=delivery.attempts,
        next_attempt_at=show_time(delivery.next_at) if delivery.is_open else None,
        last_status=delivery.last_status,
        last_error=delivery.last_error or None,
        created_at=show_time(delivery.created_at),
        changed_at=show_time(delivery.changed_at),
    )


def show_attempt(attempt: Attempt) -> AttemptOut:
    """An attempt as responses carry it."""
    return AttemptOut(
        number=attempt.number,
        outcome=attempt.outcome.value,
        status=attempt.status,
        error=attempt.error or None,
        elapsed_ms=attempt.elapsed_ms,
        ended_at=show_time(attempt.created_at),
    )
