"""Our accounts at banks, through which payouts leave and money arrives."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.deps import rails_of
from api.errors import at
from api.idempotency import Command, commands
from api.rest.shapes import COMMAND_PROBLEMS, READ_PROBLEMS, AssetText, In, Out, PageOut, load_asset
from api.strict_json import StrictRoute
from custody.banking import service as banking
from custody.banking.model import BankAccount
from custody.db.session import UnitOfWork
from custody.kernel.errors import InvalidInput
from custody.kernel.ids import show_id

router = APIRouter(prefix="/v1/bank-accounts", tags=["bank accounts"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("bank_accounts:read"))]
Operate = Annotated[Command, Depends(commands("bank_accounts:write"))]


class UnknownRail(InvalidInput):
    """No rail of this name is configured: payouts from the account would wait for ever."""

    code = "unknown_rail"
    public = "No such rail is configured."


class BankAccountIn(In):
    """An account that the bank has already opened in our name."""

    rail: str = Field(
        min_length=1, max_length=32, description="The rail that speaks to this bank.", examples=["sandbox"]
    )
    iban: str = Field(min_length=5, max_length=42, examples=["DE75512108001245126199"])
    asset: AssetText = Field(examples=["fiat/EUR"])
    name: str = Field(min_length=1, max_length=100, examples=["Main EUR account"])


class BankAccountOut(Out):
    """One of our bank accounts."""

    id: str = Field(examples=["bnk_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    rail: str
    iban: str
    asset: AssetText
    name: str


@router.post("", status_code=201, response_model=BankAccountOut, responses=COMMAND_PROBLEMS)
async def add_bank_account(body: BankAccountIn, command: Operate) -> Response:
    """Register an account."""
    with at("/rail"):
        if body.rail not in rails_of(command.request).ids:
            raise UnknownRail(rail=body.rail)

    async def effect(uow: UnitOfWork) -> BankAccountOut:
        asset = await load_asset(uow, body.asset)
        return show_bank_account(
            await banking.add_bank_account(
                uow, command.principal, rail=body.rail, iban=body.iban, asset=asset.id, name=body.name
            )
        )

    return await command.run(effect)


@router.get("", responses=READ_PROBLEMS)
async def list_bank_accounts(caller: Reader) -> PageOut[BankAccountOut]:
    """All of them: they are few."""
    async with caller.read() as session:
        found = await banking.list_bank_accounts(session)
    return PageOut(data=[show_bank_account(account) for account in found], next_cursor=None)


def show_bank_account(account: BankAccount) -> BankAccountOut:
    """A bank account as responses carry it."""
    return BankAccountOut(
        id=show_id("bnk", account.id),
        rail=account.rail,
        iban=account.iban,
        asset=account.asset.text,
        name=account.name,
    )
