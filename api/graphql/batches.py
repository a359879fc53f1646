"""Withdrawals that one approval is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import strawberry

from api.graphql.commands import Ctx, MutationStatus, carry_out, checked, command_of, fresh
from api.graphql.movements import Withdrawal, show_withdrawal
from api.graphql.mutation_types import CancelInput, DecideApprovalInput, Payload, PaymentMemoInput
from api.rest import batches as routes
from api.rest.shapes import parse_field_id
from api.rest.withdrawals import look_up_receiver
from custody.db.session import UnitOfWork
from custody.events.trace import current_trace
from custody.kernel.errors import NotFound
from custody.kernel.ids import WithdrawalId, show_id
from custody.policy.model import Word
from custody.withdrawals import batches, voids
from custody.withdrawals.batches import RequestBatch


@strawberry.type
class WithdrawalBatch:
    """A batch with its lines. `digest` and `approverSetVersion` are what approvers sign for; `missing`: how many people have yet
    to approve."""

    id: strawberry.ID
    digest: str
    approver_set_version: int
    initiator: str
    missing: int
    lines: list[Withdrawal]
    expires_at: datetime
    created_at: datetime


@strawberry.input
class BatchLineInput:
    """One withdrawal of a batch, in atomic units."""

    wallet_id: strawberry.ID
    asset: str
    amount: str
    destination: str
    memo: PaymentMemoInput | None = None


@strawberry.input
class CreateWithdrawalBatchInput:
    """Up to 100 withdrawals that are approved as one."""

    idempotency_key: str
    lines: list[BatchLineInput]


@strawberry.type
class WithdrawalBatchPayload(Payload):
    """What came of it; the batch is null where it was refused."""

    withdrawal_batch: WithdrawalBatch | None = None


@strawberry.type
class BatchMutations:
    """The part of the root that asks for batches and decides about them."""

    @strawberry.mutation
    async def create_withdrawal_batch(
        self,
        info: Ctx,
        input: CreateWithdrawalBatchInput,  # noqa: A002 - Relay names the argument so
    ) -> WithdrawalBatchPayload:
        """Ask for up to 100 withdrawals that are approved as one. All amounts are held, or none is."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "createWithdrawalBatch", input)
            body = checked(routes.BatchIn, lines=[_line(each) for each in input.lines])
            batch_id = command.derived_id("withdrawal_batch")
            if (known := await command.recorded()) is not None:
                return known, True
            app = caller.app
            receivers = await asyncio.gather(
                *(look_up_receiver(app.clients, line.asset, line.destination) for line in body.lines)
            )

            async def effect(uow: UnitOfWork) -> UUID:
                lines = [
                    await routes.parse_line(uow, line, batch_id, place)
                    for place, line in enumerate(body.lines)
                ]
                wanted = RequestBatch(id=batch_id, lines=tuple(lines), receivers=tuple(receivers))
                made = await batches.request(
                    uow, caller.principal, wanted, settings=app.settings, clock=app.clock
                )
                return made.batch.id

            return await command.run(effect)

        done = await carry_out(caller, "withdrawals:batch", MutationStatus.PENDING, work)
        found = None if done.id is None else await find_batch(fresh(info), done.id)
        return WithdrawalBatchPayload(status=done.status, errors=done.errors, withdrawal_batch=found)

    @strawberry.mutation
    async def cancel_withdrawal_batch(self, info: Ctx, input: CancelInput) -> WithdrawalBatchPayload:  # noqa: A002 - as above
        """Take all lines back while no key can have been touched for any. Single lines are cancelled as withdrawals are."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "cancelWithdrawalBatch", input)
            wanted = parse_field_id("bat", str(input.id), "id")
            if (known := await command.recorded()) is not None:
                return known, True
            async with caller.read() as session:
                lines = (await batches.view(session, wanted)).lines
            voided = await voids.void_approved(caller.app.signer, lines)

            async def effect(uow: UnitOfWork) -> UUID:
                return (await voids.cancel_batch(uow, caller.principal, wanted, voided)).batch.id

            return await command.run(effect)

        done = await carry_out(caller, "withdrawals:batch", MutationStatus.DONE, work)
        found = None if done.id is None else await find_batch(fresh(info), done.id)
        return WithdrawalBatchPayload(status=done.status, errors=done.errors, withdrawal_batch=found)

    @strawberry.mutation
    async def decide_batch_approval(self, info: Ctx, input: DecideApprovalInput) -> WithdrawalBatchPayload:  # noqa: A002 - as above
        """Record an approver's decision about all lines of a batch that still wait. The signer checks every signature again."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "decideBatchApproval", input)
            wanted = parse_field_id("bat", str(input.id), "id")
            decision = input.read()
            if (known := await command.recorded()) is not None:
                return known, True
            app, tenant = caller.app, caller.principal.tenant
            rejects = decision.word is Word.REJECT
            voided: Collection[WithdrawalId] = ()
            if rejects:
                voided = await voids.void_rejected_batch(app.db, app.signer, tenant, wanted, decision)

            async def effect(uow: UnitOfWork) -> UUID:
                if rejects:
                    return (await voids.reject_batch(uow, wanted, decision, voided)).batch.id
                return (await batches.decide(uow, wanted, decision)).batch.id

            return await command.run(effect)

        done = await carry_out(caller, "approvals:decide", MutationStatus.DONE, work)
        found = None if done.id is None else await find_batch(fresh(info), done.id)
        for line in () if found is None else found.lines:
            await caller.app.waker.wake(
                "advance_withdrawal", caller.principal.tenant, line.model.id, current_trace()
            )
        return WithdrawalBatchPayload(status=done.status, errors=done.errors, withdrawal_batch=found)


def _line(given: BatchLineInput) -> dict[str, object]:
    """A line as REST has it."""
    line: dict[str, object] = {
        "wallet_id": str(given.wallet_id),
        "asset": given.asset,
        "amount": given.amount,
        "destination": given.destination,
    }
    if given.memo is not None:
        line["memo"] = {"type": given.memo.type.value, "value": given.memo.value}
    return line


async def find_batch(info: Ctx, value: UUID) -> WithdrawalBatch | None:
    """A batch by id."""
    try:
        async with info.context.turn() as session:
            found = await batches.view(session, value)
    except NotFound:
        return None
    info.context.budget.spend(len(found.lines))
    return WithdrawalBatch(
        id=strawberry.ID(show_id("bat", found.batch.id)),
        digest=found.batch.digest.hex(),
        approver_set_version=found.approver_set_version,
        initiator=found.batch.initiator,
        missing=found.verdict.missing,
        lines=[show_withdrawal(await info.context.asset(line.asset), line) for line in found.lines],
        expires_at=found.batch.expires_at,
        created_at=found.batch.created_at,
    )
