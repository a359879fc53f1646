"""Who may be paid by vaults and wallets that are restricted to the address book: proposed by one person, confirmed by another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from uuid import UUID

import strawberry

from api.graphql.commands import Ctx, MutationStatus, carry_out, checked, command_of, fresh
from api.graphql.mutation_types import Payload, PaymentMemoInput
from api.graphql.outgoing import (
    AddressEntry,
    AddressRestriction,
    show_address_entry,
    show_address_restriction,
)
from api.rest import address_book as routes
from api.rest.shapes import parse_field_id
from custody.address_book import service as address_book
from custody.address_book.model import Entry
from custody.db.session import UnitOfWork


@strawberry.enum
class RestrictedKind(Enum):
    """What can be restricted to the address book."""

    VAULT = "vault"
    WALLET = "wallet"


@strawberry.input
class ProposeAddressEntryInput:
    """An address that shall be paid to, as withdrawals will name it, with exactly the memo that payments carry."""

    idempotency_key: str
    chain: str
    address: str
    label: str
    memo: PaymentMemoInput | None = None


@strawberry.input
class DecideAddressEntryInput:
    """An entry of the address book."""

    idempotency_key: str
    id: strawberry.ID


@strawberry.input
class RestrictToAddressBookInput:
    """Which vault or wallet shall pay to entries only, or no longer."""

    idempotency_key: str
    scope: RestrictedKind
    object_id: strawberry.ID
    address_book_only: bool


@strawberry.type
class AddressEntryPayload(Payload):
    """What came of it; the entry is null where it was refused."""

    entry: AddressEntry | None = None


@strawberry.type
class AddressRestrictionPayload(Payload):
    """What came of it; the restriction is null where it was refused."""

    restriction: AddressRestriction | None = None


@strawberry.type
class AddressBookMutations:
    """The part of the root that changes the address book."""

    @strawberry.mutation
    async def propose_address_entry(self, info: Ctx, input: ProposeAddressEntryInput) -> AddressEntryPayload:  # noqa: A002 - Relay names the argument so
        """Propose an address. Somebody else has to confirm it, and it counts only after a wait."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "proposeAddressEntry", input)
            memo = None if input.memo is None else {"type": input.memo.type.value, "value": input.memo.value}
            body = checked(
                routes.EntryIn, chain=input.chain, address=input.address, memo=memo, label=input.label
            )
            receiver = routes.read_receiver(caller.app.clients, body)
            entry_id = command.derived_id("address_entry")

            async def effect(uow: UnitOfWork) -> UUID:
                subject = caller.principal.subject
                return (await address_book.propose(uow, subject, entry_id, receiver, body.label)).id

            return await command.run(effect)

        done = await carry_out(caller, "address_book:write", MutationStatus.PENDING, work)
        return AddressEntryPayload(status=done.status, errors=done.errors, entry=await _entry(info, done.id))

    @strawberry.mutation
    async def confirm_address_entry(self, info: Ctx, input: DecideAddressEntryInput) -> AddressEntryPayload:  # noqa: A002 - as above
        """The second person's word. It counts after a wait: `countsFrom`. Whoever proposed the entry is refused."""
        caller = info.context.caller
        wait_s = caller.app.settings.address_book_wait_s
        return await _decide(
            info,
            "confirmAddressEntry",
            input,
            lambda uow, entry: address_book.confirm(uow, caller.principal.subject, entry, wait_s=wait_s),
        )

    @strawberry.mutation
    async def remove_address_entry(self, info: Ctx, input: DecideAddressEntryInput) -> AddressEntryPayload:  # noqa: A002 - as above
        """The entry counts no longer, at once. What was asked for before goes on."""
        caller = info.context.caller
        return await _decide(
            info,
            "removeAddressEntry",
            input,
            lambda uow, entry: address_book.remove(uow, caller.principal.subject, entry),
        )

    @strawberry.mutation
    async def restrict_to_address_book(
        self,
        info: Ctx,
        input: RestrictToAddressBookInput,  # noqa: A002 - as above
    ) -> AddressRestrictionPayload:
        """Have a vault or wallet pay to entries only, at once; or no longer, after the same wait as a new entry."""
        caller = info.context.caller
        wait_s = caller.app.settings.address_book_wait_s

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "restrictToAddressBook", input)
            body = checked(
                routes.RestrictionIn,
                scope=input.scope.value,
                object_id=str(input.object_id),
                address_book_only=input.address_book_only,
            )
            object_id = routes.parse_restricted(body)

            async def effect(uow: UnitOfWork) -> UUID:
                made = await address_book.restrict(
                    uow,
                    caller.principal.subject,
                    body.scope,
                    object_id,
                    enabled=body.address_book_only,
                    wait_s=wait_s,
                )
                return made.object_id

            return await command.run(effect)

        done = await carry_out(caller, "address_book:write", MutationStatus.DONE, work)
        found = None
        if done.id is not None:
            async with fresh(info).context.turn() as session:
                said = await address_book.list_restrictions(session)
            found = next((show_address_restriction(each) for each in said if each.object_id == done.id), None)
        return AddressRestrictionPayload(status=done.status, errors=done.errors, restriction=found)


async def _decide(
    info: Ctx,
    name: str,
    given: DecideAddressEntryInput,
    decide: Callable[[UnitOfWork, UUID], Awaitable[Entry]],
) -> AddressEntryPayload:
    async def work() -> tuple[UUID, bool]:
        command = command_of(info, name, given)
        wanted = parse_field_id("abe", str(given.id), "id")

        async def effect(uow: UnitOfWork) -> UUID:
            return (await decide(uow, wanted)).id

        return await command.run(effect)

    done = await carry_out(info.context.caller, "address_book:write", MutationStatus.DONE, work)
    return AddressEntryPayload(status=done.status, errors=done.errors, entry=await _entry(info, done.id))


async def _entry(info: Ctx, value: UUID | None) -> AddressEntry | None:
    if value is None:
        return None
    async with fresh(info).context.turn() as session:
        return show_address_entry(await address_book.get_entry(session, value))
