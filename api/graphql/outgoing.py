"""What decides about receivers outside: screenings, and the address book."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.types import Info

from api.graphql.connections import FIRST_DEFAULT, After, Connection, First, checked, connect
from api.graphql.context import Context
from api.graphql.switches import Switch, show_switch
from api.paging import parse_id_cursor, parse_number_cursor
from custody.address_book import service as address_book
from custody.address_book.model import Entry, Restriction
from custody.kernel.ids import show_id
from custody.screening.model import Result
from custody.switches import service as switches


@strawberry.type
class Screening:
    """What somebody said about a receiver: the tenant's own `list`, or an outside screener."""

    screener: str
    finding: str
    detail: str
    list_version: str | None
    reference: str
    created_at: datetime


@strawberry.type
class AddressEntry:
    """An entry of the address book: this very address with this very memo. It counts from `countsFrom` on, until removed."""

    id: strawberry.ID
    chain: str
    address: str
    memo_type: str | None
    memo: str | None
    label: str
    state: str
    proposed_by: str
    confirmed_by: str | None
    removed_by: str | None
    counts_from: datetime | None
    created_at: datetime


@strawberry.type
class AddressRestriction:
    """Whether a vault or a wallet pays to entries of the address book only."""

    scope: str
    object_id: strawberry.ID
    address_book_only: bool
    counts_from: datetime
    actor: str


@strawberry.type
class OutgoingQuery:
    """The part of the root that reads all this."""

    @strawberry.field
    async def switches(
        self,
        info: Info[Context, None],
        *,
        standing: bool = True,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[Switch]:
        """What operators have stopped, newest first: what is stopped now, or all that ever was."""
        before = parse_id_cursor("switches", after)
        async with info.context.turn() as session:
            found = await switches.list_switches(
                session, standing=standing, before=before, limit=checked(first) + 1
            )
        return connect("switches", found, first, after, key=lambda row: row.id, show=show_switch)

    @strawberry.field
    async def address_book(
        self, info: Info[Context, None], first: First = FIRST_DEFAULT, after: After = None
    ) -> Connection[AddressEntry]:
        """Entries of the address book in the order in which they were proposed, removed ones too."""
        start = parse_number_cursor("address_entries", after) or 0
        async with info.context.turn() as session:
            found = await address_book.list_entries(session, start, checked(first) + 1)
        return connect(
            "address_entries", found, first, after, key=lambda row: row.sequence, show=show_address_entry
        )

    @strawberry.field
    async def address_book_restrictions(self, info: Info[Context, None]) -> list[AddressRestriction]:
        """The newest word about each vault and wallet that was ever restricted to the address book."""
        async with info.context.turn() as session:
            found = await address_book.list_restrictions(session)
        info.context.budget.spend(len(found))
        return [show_address_restriction(each) for each in found]


def show_screening(found: Result) -> Screening:
    """What was said about a receiver."""
    return Screening(
        screener=found.screener,
        finding=found.finding.value,
        detail=found.detail,
        list_version=None if found.list_version is None else str(found.list_version),
        reference=str(found.reference),
        created_at=found.created_at,
    )


def show_address_entry(found: Entry) -> AddressEntry:
    """An entry of the address book."""
    receiver = found.receiver
    has_memo = receiver.memo_type != "none"
    return AddressEntry(
        id=strawberry.ID(show_id("abe", found.id)),
        chain=receiver.chain,
        address=receiver.address,
        memo_type=receiver.memo_type if has_memo else None,
        memo=receiver.memo if has_memo else None,
        label=found.label,
        state=found.state,
        proposed_by=found.proposed_by,
        confirmed_by=found.confirmed_by,
        removed_by=found.removed_by,
        counts_from=found.counts_from,
        created_at=found.created_at,
    )


def show_address_restriction(found: Restriction) -> AddressRestriction:
    """A restriction."""
    return AddressRestriction(
        scope=found.scope,
        object_id=strawberry.ID(show_id("vlt" if found.scope == "vault" else "wal", found.object_id)),
        address_book_only=found.enabled,
        counts_from=found.counts_from,
        actor=found.actor,
    )
