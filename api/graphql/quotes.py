"""What a withdrawal would cost, for whoever asks for it in time."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import strawberry

from api.graphql.commands import Ctx, MutationStatus, carry_out, checked, command_of, fresh
from api.graphql.mutation_types import Payload
from api.graphql.parties import Money, show_money
from api.rest import tariffs as routes
from api.rest.shapes import load_asset, parse_field_id, parse_money
from custody.db.session import UnitOfWork
from custody.kernel.ids import QuoteId, WalletId, new_uuid, show_id
from custody.tariffs import service as tariffs
from custody.tariffs.model import RequestQuote


@strawberry.type
class WithdrawalQuote:
    """What a withdrawal costs: name its `id` in `createWithdrawal` until `expiresAt`. `kind` is as in `WithdrawalFee`; `fee` is
    held with the amount, and is the most that is charged; `total` is both."""

    id: strawberry.ID
    kind: str
    amount: Money
    fee: Money
    total: Money
    expires_at: datetime


@strawberry.input
class QuoteWithdrawalInput:
    """A withdrawal that is considered, in atomic units."""

    idempotency_key: str
    wallet_id: strawberry.ID
    asset: str
    amount: str


@strawberry.type
class QuotePayload(Payload):
    """What came of it; the quote is null where it was refused."""

    quote: WithdrawalQuote | None = None


@strawberry.type
class QuoteMutations:
    """The part of the root that asks for quotes."""

    @strawberry.mutation
    async def quote_withdrawal(self, info: Ctx, input: QuoteWithdrawalInput) -> QuotePayload:  # noqa: A002 - Relay names the argument so
        """Say what a withdrawal costs. Nothing is held; name the quote in the withdrawal to have it at this price."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "quoteWithdrawal", input)
            body = checked(
                routes.QuoteIn, wallet_id=str(input.wallet_id), asset=input.asset, amount=input.amount
            )
            wallet = WalletId(parse_field_id("wal", body.wallet_id, "wallet_id"))

            async def effect(uow: UnitOfWork) -> UUID:
                asset = await load_asset(uow, body.asset)
                wanted = RequestQuote(
                    id=QuoteId(new_uuid()), wallet_id=wallet, amount=parse_money(asset, body.amount)
                )
                made = await tariffs.quote(uow, caller.principal.subject, wanted, caller.app.clock.now())
                return made.id

            return await command.run(effect)

        done = await carry_out(caller, "withdrawals:quote", MutationStatus.DONE, work)
        found = None if done.id is None else await _find_quote(fresh(info), done.id)
        return QuotePayload(status=done.status, errors=done.errors, quote=found)


async def _find_quote(info: Ctx, value: UUID) -> WithdrawalQuote:
    async with info.context.turn() as session:
        found = await tariffs.get_quote(session, QuoteId(value))
    asset = await info.context.asset(found.amount.asset)
    return WithdrawalQuote(
        id=strawberry.ID(show_id("qte", found.id)),
        kind=found.fee.kind,
        amount=show_money(asset, found.amount.atomic),
        fee=show_money(asset, found.fee.held),
        total=show_money(asset, found.amount.atomic + found.fee.held),
        expires_at=found.expires_at,
    )
