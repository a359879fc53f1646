"""The address book, and which vaults and wallets are restricted to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path
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
    Empty,
    In,
    Limit,
    Out,
    PageOut,
    ShownId,
    parse_chain,
    parse_field_id,
    show_time,
)
from api.rest.withdrawal_shapes import MemoIn
from api.strict_json import StrictRoute
from custody.address_book import service as address_book
from custody.address_book.model import Entry, Receiver, Restriction
from custody.db.session import UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.ids import parse_id, show_id
from custody.withdrawals.checks import check_receiver
from custody.withdrawals.model import NO_MEMO, Memo

router = APIRouter(prefix="/v1/address-book", tags=["address-book"], route_class=StrictRoute)
Reader = Annotated[Caller, Depends(requires("address_book:read"))]
Operate = Annotated[Command, Depends(commands("address_book:write"))]

EntryPath = Annotated[str, Path(max_length=40, examples=["abe_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]

_PREFIXES: dict[str, str] = {"vault": "vlt", "wallet": "wal"}


class EntryIn(In):
    """An address that shall be paid to."""

    chain: str = Field(max_length=64, examples=["stellar:devnet"])
    address: str = Field(
        min_length=1,
        max_length=128,
        description="As withdrawals will name it: G or M on Stellar, EIP-55 on EVM chains.",
        examples=["GBRPYHIL2CI3FNQ4BXLFMNDLFJUNPU2HY3ZMFSHONUCEOASW7QC7OX2H"],
    )
    memo: MemoIn | None = Field(
        default=None, description="Exactly the memo that payments carry; none without it."
    )
    label: str = Field(min_length=1, max_length=200, examples=["Kraken, treasury account"])


class EntryOut(Out):
    """An entry as it stands."""

    id: str = Field(examples=["abe_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    chain: str
    address: str
    memo: MemoIn | None
    label: str
    state: str = Field(description="`proposed`, `confirmed` or `removed`.", examples=["proposed"])
    proposed_by: str
    confirmed_by: str | None = Field(description="Somebody else than who proposed it.")
    removed_by: str | None
    counts_from: str | None = Field(description="From when on it is paid to, once it is confirmed.")
    created_at: str


class RestrictionIn(In):
    """Which vault or wallet shall pay to entries only, or no longer."""

    scope: Literal["vault", "wallet"]
    object_id: ShownId = Field(examples=["vlt_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    address_book_only: bool


class RestrictionOut(Out):
    """The newest word about a vault or wallet."""

    scope: str = Field(examples=["vault"])
    object_id: str
    address_book_only: bool
    counts_from: str = Field(description="At once for a restriction; after a wait where one is lifted.")
    actor: str


@router.post("/entries", status_code=201, response_model=EntryOut, responses=COMMAND_PROBLEMS)
async def propose_entry(body: EntryIn, command: Operate) -> Response:
    """Propose an address. Somebody else has to confirm it, and it counts only after a wait."""
    receiver = read_receiver(command.app.clients, body)
    entry_id = command.derived_id("address_entry")

    async def effect(uow: UnitOfWork) -> EntryOut:
        return show_entry(
            await address_book.propose(uow, command.principal.subject, entry_id, receiver, body.label)
        )

    return await command.run(effect)


@router.get("/entries", responses=READ_PROBLEMS)
async def list_entries(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[EntryOut]:
    """Entries in the order in which they were proposed, removed ones too."""
    after = parse_number_cursor("address_entries", cursor) or 0
    async with caller.read() as session:
        page = page_of(await address_book.list_entries(session, after, limit + 1), limit)
    return PageOut(
        data=[show_entry(row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor("address_entries", row.sequence)),
    )


@router.post(
    "/entries/{entry_id}/confirm", status_code=200, response_model=EntryOut, responses=COMMAND_PROBLEMS
)
async def confirm_entry(entry_id: EntryPath, command: Operate, _: Empty | None = None) -> Response:
    """The second person's word. Whoever proposed the entry is refused."""
    wanted = parse_id("abe", entry_id)
    wait_s = command.app.settings.address_book_wait_s

    async def effect(uow: UnitOfWork) -> EntryOut:
        return show_entry(await address_book.confirm(uow, command.principal.subject, wanted, wait_s=wait_s))

    return await command.run(effect, status=200)


@router.post(
    "/entries/{entry_id}/remove", status_code=200, response_model=EntryOut, responses=COMMAND_PROBLEMS
)
async def remove_entry(entry_id: EntryPath, command: Operate, _: Empty | None = None) -> Response:
    """The entry counts no longer, at once. What was asked for before goes on."""
    wanted = parse_id("abe", entry_id)

    async def effect(uow: UnitOfWork) -> EntryOut:
        return show_entry(await address_book.remove(uow, command.principal.subject, wanted))

    return await command.run(effect, status=200)


@router.post("/restrictions", status_code=201, response_model=RestrictionOut, responses=COMMAND_PROBLEMS)
async def restrict(body: RestrictionIn, command: Operate) -> Response:
    """Have a vault or wallet pay to entries only, at once; or no longer, after the same wait as a new entry."""
    object_id = parse_restricted(body)
    wait_s = command.app.settings.address_book_wait_s

    async def effect(uow: UnitOfWork) -> RestrictionOut:
        return show_restriction(
            await address_book.restrict(
                uow,
                command.principal.subject,
                body.scope,
                object_id,
                enabled=body.address_book_only,
                wait_s=wait_s,
            )
        )

    return await command.run(effect)


@router.get("/restrictions", responses=READ_PROBLEMS)
async def list_restrictions(caller: Reader) -> PageOut[RestrictionOut]:
    """The newest word about each vault and wallet that was ever restricted."""
    async with caller.read() as session:
        found = await address_book.list_restrictions(session)
    return PageOut(data=[show_restriction(each) for each in found], next_cursor=None)


def show_entry(entry: Entry) -> EntryOut:
    """An entry as responses carry it."""
    receiver = entry.receiver
    return EntryOut(
        id=show_id("abe", entry.id),
        chain=receiver.chain,
        address=receiver.address,
        memo=None
        if receiver.memo_type == NO_MEMO.type
        else MemoIn.model_validate({"type": receiver.memo_type, "value": receiver.memo}),
        label=entry.label,
        state=entry.state,
        proposed_by=entry.proposed_by,
        confirmed_by=entry.confirmed_by,
        removed_by=entry.removed_by,
        counts_from=None if entry.counts_from is None else show_time(entry.counts_from),
        created_at=show_time(entry.created_at),
    )


def show_restriction(found: Restriction) -> RestrictionOut:
    """A restriction as responses carry it."""
    return RestrictionOut(
        scope=found.scope,
        object_id=show_id(_PREFIXES[found.scope], found.object_id),
        address_book_only=found.enabled,
        counts_from=show_time(found.counts_from),
        actor=found.actor,
    )


def read_receiver(clients: Mapping[ChainId, object], body: EntryIn) -> Receiver:
    """Whom an entry names. Raises what is wrong with the chain, or at /address."""
    chain = parse_chain(clients, body.chain)
    memo = NO_MEMO if body.memo is None else Memo(type=body.memo.type, value=body.memo.value)
    with at("/address"):
        address = check_receiver(chain, body.address, memo).address
    return Receiver(chain=chain, address=address, memo_type=memo.type, memo=memo.value)


def parse_restricted(body: RestrictionIn) -> UUID:
    """The vault or wallet that a restriction names. Raises MalformedId at /object_id."""
    return parse_field_id(_PREFIXES[body.scope], body.object_id, "object_id")
