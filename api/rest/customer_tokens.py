"""Tokens for wallets' end users: the tenant's own server asks for one when its user has signed in, and hands it on."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.deps import gate_of
from api.idempotency import Command, commands
from api.rest.shapes import COMMAND_PROBLEMS, Empty, In, Out, show_time
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.identity import customer_tokens
from custody.identity.model import IssuedKey
from custody.kernel.ids import CustomerId, parse_id, show_id
from custody.wallets import service as wallets

router = APIRouter(prefix="/v1/customers", tags=["access"], route_class=StrictRoute)

Issue = Annotated[Command, Depends(commands("customer_tokens:issue"))]
CustomerPath = Annotated[str, Path(max_length=40, examples=["cus_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
Act = Literal["transfers:request", "withdrawals:request", "withdrawals:cancel"]


class CustomerTokenIn(In):
    """What the token is for."""

    permissions: list[Act] = Field(
        default_factory=list,
        max_length=3,
        description="What it may do with the customer's own wallets beyond seeing them.",
        examples=[["transfers:request"]],
    )
    expires_in_s: int = Field(default=900, ge=60, le=3600, examples=[900])


class CustomerTokenOut(Out):
    """A token that was issued."""

    customer_id: str
    token: str | None = Field(description="Shown once, in the first answer: null in a repeated one.")
    permissions: list[str]
    expires_at: str | None


class EndedTokensOut(Out):
    """How many tokens were ended."""

    customer_id: str
    ended: int


@router.post(
    "/{customer_id}/tokens", status_code=201, response_model=CustomerTokenOut, responses=COMMAND_PROBLEMS
)
async def issue_customer_token(customer_id: CustomerPath, body: CustomerTokenIn, command: Issue) -> Response:
    """Issue a token that sees this customer's wallets, balances, deposits, transfers and withdrawals, and nothing else."""
    wanted = CustomerId(parse_id("cus", customer_id))
    made: list[IssuedKey] = []

    async def issue(uow: UnitOfWork) -> None:
        await wallets.get_customer(uow, wanted)
        made.append(
            await customer_tokens.issue(
                uow,
                command.principal,
                command.derived_id("customer-token"),
                wanted,
                acts=body.permissions,
                lifetime=timedelta(seconds=body.expires_in_s),
                now=command.app.clock.now(),
            )
        )

    replayed = await command.accept(issue)
    issued = made[0] if made else None
    shown = CustomerTokenOut(
        customer_id=show_id("cus", wanted),
        token=None if issued is None else issued.secret,
        permissions=sorted(body.permissions),
        expires_at=None if issued is None or issued.expires_at is None else show_time(issued.expires_at),
    )
    return command.answer(shown, 201, replayed=replayed)


@router.post("/{customer_id}/tokens/revoke", response_model=EndedTokensOut, responses=COMMAND_PROBLEMS)
async def revoke_customer_tokens(
    customer_id: CustomerPath, command: Issue, _: Empty | None = None
) -> Response:
    """End all tokens of a customer now. Other processes of the API may believe them for a few seconds more."""
    wanted = CustomerId(parse_id("cus", customer_id))

    async def effect(uow: UnitOfWork) -> EndedTokensOut:
        await wallets.get_customer(uow, wanted)
        ended = await customer_tokens.revoke_all(uow, command.principal, wanted)
        return EndedTokensOut(customer_id=show_id("cus", wanted), ended=ended)

    answer = await command.run(effect, status=200)
    gate_of(command.request).cache.forget(customer_tokens.principal_of(command.principal.tenant, wanted))
    return answer
