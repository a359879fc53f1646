"""The tenant's own list of addresses that nobody here may pay: what screening knows by itself."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_number_cursor, show_cursor
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    Cursor,
    In,
    Limit,
    Out,
    PageOut,
    parse_chain,
    show_time,
)
from api.strict_json import StrictRoute
from custody.chains import address as addresses
from custody.db.session import UnitOfWork
from custody.screening import service as screening
from custody.screening.model import ListEntry

router = APIRouter(prefix="/v1/refused-addresses", tags=["screening"], route_class=StrictRoute)
Reader = Annotated[Caller, Depends(requires("screening:read"))]
Operate = Annotated[Command, Depends(commands("screening:write"))]


class RefusalIn(In):
    """Which account the list shall name, or no longer."""

    chain: str = Field(
        max_length=64,
        description="The account is refused on every chain of this kind.",
        examples=["stellar:devnet"],
    )
    address: str = Field(
        min_length=1,
        max_length=128,
        description="Refused whatever the tag or memo.",
        examples=["GBRPYHIL2CI3FNQ4BXLFMNDLFJUNPU2HY3ZMFSHONUCEOASW7QC7OX2H"],
    )
    source: str = Field(
        min_length=1,
        max_length=200,
        description="Who says so, with its date.",
        examples=["OFAC SDN 2026-11-20"],
    )
    note: str = Field(default="", max_length=500)


class ListEntryOut(Out):
    """One row of the list. The last row about an account holds."""

    version: int = Field(description="The row's place; also the list's version from then on.")
    kind: str = Field(description="Kind of chain.", examples=["stellar", "eip155"])
    account: str
    word: str = Field(
        description="`refused`, or `withdrawn` where that no longer holds.", examples=["refused"]
    )
    source: str
    note: str
    actor: str
    created_at: str


@router.get("", responses=READ_PROBLEMS)
async def list_refused_addresses(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[ListEntryOut]:
    """All rows of the list, oldest first."""
    after = parse_number_cursor("refused_addresses", cursor) or 0
    async with caller.read() as session:
        page = page_of(await screening.list_entries(session, after, limit + 1), limit)
    return PageOut(
        data=[show_list_entry(row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("refused_addresses", row.sequence)),
    )


@router.post("", status_code=201, response_model=ListEntryOut, responses=COMMAND_PROBLEMS)
async def refuse_address(body: RefusalIn, command: Operate) -> Response:
    """Have the list name an account. Withdrawals to it are blocked, also those that wait for their key already."""
    return await _say(body, command, withdrawn=False)


@router.post("/withdraw", status_code=201, response_model=ListEntryOut, responses=COMMAND_PROBLEMS)
async def withdraw_refusal(body: RefusalIn, command: Operate) -> Response:
    """Have the list name an account no longer, by a row of its own. What was blocked stays blocked."""
    return await _say(body, command, withdrawn=True)


async def _say(body: RefusalIn, command: Operate, *, withdrawn: bool) -> Response:
    chain = parse_chain(command.app.clients, body.chain)
    with at("/address"):
        addresses.parse(chain, body.address)
    say = screening.withdraw if withdrawn else screening.refuse

    async def effect(uow: UnitOfWork) -> ListEntryOut:
        return show_list_entry(
            await say(uow, command.principal.subject, chain, body.address, source=body.source, note=body.note)
        )

    return await command.run(effect)


def show_list_entry(entry: ListEntry) -> ListEntryOut:
    """A row as responses carry it."""
    return ListEntryOut(
        version=entry.sequence,
        kind=entry.namespace,
        account=entry.account,
        word=entry.word,
        source=entry.source,
        note=entry.note,
        actor=entry.actor,
        created_at=show_time(entry.created_at),
    )
