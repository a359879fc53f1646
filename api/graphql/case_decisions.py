"""What people decide about deposits that no wallet could be credited with."""

from __future__ import annotations

from uuid import UUID

import strawberry

from api.graphql import nodes
from api.graphql.cases import Case
from api.graphql.commands import Ctx, MutationStatus, carry_out, checked, command_of, fresh
from api.graphql.mutation_types import Payload, PaymentMemoInput
from api.rest import cases as routes
from api.rest.shapes import parse_field_id
from custody.db.session import UnitOfWork
from custody.deposits import cases
from custody.kernel.ids import CaseId, WalletId, WithdrawalId, new_uuid
from custody.returns import service as returns
from custody.returns.execution import look_up
from custody.returns.service import RequestReturn
from custody.withdrawals.model import NO_MEMO, Memo


@strawberry.input
class AssignCaseInput:
    """The wallet that a case's money is credited to, and why."""

    idempotency_key: str
    id: strawberry.ID
    wallet_id: strawberry.ID
    note: str = ""


@strawberry.input
class ReturnCaseInput:
    """Where a case's money goes back to. `memo`: exactly what the sender wants to read. It must be there: null says that none is
    needed."""

    idempotency_key: str
    id: strawberry.ID
    destination: str
    memo: PaymentMemoInput | None = strawberry.UNSET
    note: str = ""


@strawberry.input
class DismissCaseInput:
    """A case about which nothing is to be done, and why."""

    idempotency_key: str
    id: strawberry.ID
    note: str = ""


@strawberry.type
class CasePayload(Payload):
    """What came of it; the case is null where it was refused."""

    case: Case | None = None


@strawberry.type
class CaseMutations:
    """The part of the root that decides about cases."""

    @strawberry.mutation
    async def assign_case(self, info: Ctx, input: AssignCaseInput) -> CasePayload:  # noqa: A002 - Relay names the argument so
        """Credit a case's money to a wallet, at once and for good."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "assignCase", input)
            body = checked(routes.AssignIn, wallet_id=str(input.wallet_id), note=input.note)
            wanted = CaseId(parse_field_id("cas", str(input.id), "id"))
            wallet = WalletId(parse_field_id("wal", body.wallet_id, "wallet_id"))

            async def effect(uow: UnitOfWork) -> UUID:
                return (await cases.assign(uow, caller.principal.subject, wanted, wallet, body.note)).id

            return await command.run(effect)

        done = await carry_out(caller, "cases:decide", MutationStatus.DONE, work)
        found = None if done.id is None else await nodes.find_case(fresh(info), done.id)
        return CasePayload(status=done.status, errors=done.errors, case=found)

    @strawberry.mutation
    async def return_case(self, info: Ctx, input: ReturnCaseInput) -> CasePayload:  # noqa: A002 - as above
        """Ask for a case's money to be paid back to its sender. The withdrawal that does it goes through approval like any other;
        when it ends unpaid, the case is open again."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            given: dict[str, object] = {"destination": input.destination, "note": input.note}
            if input.memo is not strawberry.UNSET:
                memo = input.memo
                given["memo"] = memo and {"type": memo.type.value, "value": memo.value}
            body = routes.ReturnIn.model_validate(given)
            command = command_of(info, "returnCase", input)
            wanted = CaseId(parse_field_id("cas", str(input.id), "id"))
            if (known := await command.recorded()) is not None:
                return known, True
            app, tenant = caller.app, caller.principal.tenant
            receiver = await look_up(app.db, app.clients, tenant, wanted, body.destination)
            asked = RequestReturn(
                id=WithdrawalId(new_uuid()),
                case_id=wanted,
                destination=body.destination,
                memo=NO_MEMO if body.memo is None else Memo(type=body.memo.type, value=body.memo.value),
                note=body.note,
            )

            async def effect(uow: UnitOfWork) -> UUID:
                case, _ = await returns.request(
                    uow, caller.principal, asked, settings=app.settings, clock=app.clock, receiver=receiver
                )
                return case.id

            return await command.run(effect)

        done = await carry_out(caller, "cases:decide", MutationStatus.PENDING, work)
        found = None if done.id is None else await nodes.find_case(fresh(info), done.id)
        return CasePayload(status=done.status, errors=done.errors, case=found)

    @strawberry.mutation
    async def dismiss_case(self, info: Ctx, input: DismissCaseInput) -> CasePayload:  # noqa: A002 - as above
        """Want nothing done about an arrival of an unlisted asset. Money in suspense is somebody's and cannot be dismissed."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "dismissCase", input)
            body = checked(routes.DismissIn, note=input.note)
            wanted = CaseId(parse_field_id("cas", str(input.id), "id"))

            async def effect(uow: UnitOfWork) -> UUID:
                return (await cases.dismiss(uow, caller.principal.subject, wanted, body.note)).id

            return await command.run(effect)

        done = await carry_out(caller, "cases:decide", MutationStatus.DONE, work)
        found = None if done.id is None else await nodes.find_case(fresh(info), done.id)
        return CasePayload(status=done.status, errors=done.errors, case=found)
