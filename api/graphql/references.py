"""The text by which a bank transfer is known to be for a wallet."""

from __future__ import annotations

from uuid import UUID

import strawberry

from api.graphql.commands import Ctx, MutationStatus, carry_out, command_of, fresh
from api.graphql.mutation_types import Payload
from api.rest.shapes import parse_field_id
from custody.db.session import UnitOfWork
from custody.kernel.ids import WalletId
from custody.receipts import service as receipts


@strawberry.input
class NamePaymentReferenceInput:
    """The wallet that bank transfers shall be for."""

    idempotency_key: str
    wallet_id: strawberry.ID


@strawberry.type
class PaymentReferencePayload(Payload):
    """What came of it; the reference is null where it was refused."""

    reference: str | None = None


@strawberry.type
class ReferenceMutations:
    """The part of the root that names references."""

    @strawberry.mutation
    async def name_payment_reference(
        self,
        info: Ctx,
        input: NamePaymentReferenceInput,  # noqa: A002 - Relay names the argument so
    ) -> PaymentReferencePayload:
        """The text that payers must quote in a bank transfer so that it is credited to this wallet. The same for ever."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "namePaymentReference", input)
            wallet = WalletId(parse_field_id("wal", str(input.wallet_id), "wallet_id"))

            async def effect(uow: UnitOfWork) -> UUID:
                await receipts.reference_for(uow, wallet)
                return wallet

            return await command.run(effect)

        done = await carry_out(caller, "wallets:write", MutationStatus.DONE, work)
        found = None
        if done.id is not None:
            async with fresh(info).context.turn() as session:
                found = await receipts.find_reference(session, WalletId(done.id))
        return PaymentReferencePayload(status=done.status, errors=done.errors, reference=found)
