"""Customers: those for whom the tenant holds money."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.shapes import COMMAND_PROBLEMS, LIMIT_DEFAULT, READ_PROBLEMS, Cursor, In, Limit, Out, PageOut
from api.strict_json import StrictRoute
from custody.db.session import UnitOfWork
from custody.kernel.ids import CustomerId, new_uuid, parse_id, show_id
from custody.wallets import service as wallets
from custody.wallets.model import Customer

router = APIRouter(prefix="/v1/customers", tags=["customers"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("customers:read"))]
Write = Annotated[Command, Depends(commands("customers:write"))]

CustomerPath = Annotated[str, Path(max_length=40, examples=["cus_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]


class CustomerIn(In):
    """A customer to add."""

    name: str = Field(min_length=1, max_length=200, examples=["Ada Lovelace"])
    external_ref: str = Field(
        min_length=1, max_length=200, description="Your own id for them; unique.", examples=["user-1815"]
    )
    kind: Literal["customer", "treasury"] = Field(
        default="customer", description="`treasury` is your own money, out of which network fees are paid."
    )


class CustomerOut(Out):
    """A customer."""

    id: str = Field(examples=["cus_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    name: str
    external_ref: str
    kind: str


@router.post("", status_code=201, response_model=CustomerOut, responses=COMMAND_PROBLEMS)
async def create_customer(body: CustomerIn, command: Write) -> Response:
    """Add a customer. The same external reference with the same name and kind is the same customer."""
    customer_id = CustomerId(new_uuid())

    async def effect(uow: UnitOfWork) -> CustomerOut:
        made = await wallets.create_customer(
            uow,
            command.principal.subject,
            customer_id,
            name=body.name,
            external_ref=body.external_ref,
            kind=body.kind,
        )
        return show_customer(made)

    return await command.run(effect)


@router.get("", responses=READ_PROBLEMS)
async def list_customers(
    caller: Reader,
    external_ref: Annotated[
        str | None, Query(max_length=200, description="Only the one with this reference of your own.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[CustomerOut]:
    """Customers, oldest first."""
    after = parse_id_cursor("customers", cursor)
    async with caller.read() as session:
        with at("query/external_ref"):
            found = await wallets.list_customers(session, after, limit + 1, external_ref=external_ref)
    page = page_of(found, limit)
    return PageOut(
        data=[show_customer(customer) for customer in page.rows],
        next_cursor=next_cursor(page, lambda customer: show_cursor("customers", customer.id)),
    )


@router.get("/{customer_id}", responses=READ_PROBLEMS)
async def get_customer(customer_id: CustomerPath, caller: Reader) -> CustomerOut:
    """One customer."""
    async with caller.read() as session:
        return show_customer(await wallets.get_customer(session, CustomerId(parse_id("cus", customer_id))))


def show_customer(customer: Customer) -> CustomerOut:
    """A customer as responses carry them."""
    return CustomerOut(
        id=show_id("cus", customer.id),
        name=customer.name,
        external_ref=customer.external_ref,
        kind=customer.kind,
    )
