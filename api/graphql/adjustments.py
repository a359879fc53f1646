"""Wallets credited or debited by hand: one person proposes, another decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import Enum
from uuid import UUID

import strawberry

from api.filters import one_state
from api.graphql.commands import Ctx, MutationStatus, carry_out, checked, command_of, fresh
from api.graphql.connections import FIRST_DEFAULT, After, Connection, First, connect
from api.graphql.connections import checked as checked_size
from api.graphql.mutation_types import Payload
from api.graphql.parties import Money, Node, Wallet, find_wallet, show_money
from api.paging import parse_id_cursor
from api.rest import adjustments as routes
from api.rest.shapes import load_asset, parse_field_id, parse_money
from custody.adjustments import model
from custody.adjustments import service as adjustments
from custody.adjustments.transitions import ADJUSTMENTS
from custody.assets.model import Asset
from custody.db.session import UnitOfWork
from custody.identity.model import Principal
from custody.kernel.errors import NotFound
from custody.kernel.ids import AdjustmentId, WalletId, new_uuid, parse_id, show_id

Decide = Callable[[UnitOfWork, Principal, AdjustmentId, str], Awaitable[model.Adjustment]]


@strawberry.enum
class AdjustmentDirection(Enum):
    """Which way the money goes, as the wallet sees it."""

    CREDIT = "credit"
    DEBIT = "debit"


@strawberry.enum
class AdjustmentReason(Enum):
    """Why books are corrected by hand."""

    CORRECTION = "correction"
    GOODWILL = "goodwill"
    COMPENSATION = "compensation"
    LEGAL_ORDER = "legal_order"
    WRITE_OFF = "write_off"
    OPENING = "opening"


@strawberry.type
class Adjustment(Node):
    """A correction of what a wallet holds, proposed by one person and decided by another. `state`: `proposed`, `posted`,
    `rejected` or `withdrawn`; `bookedAt` is null unless it was posted."""

    id: strawberry.ID
    state: str
    direction: str
    amount: Money
    reason: str
    evidence: str
    proposed_by: str
    proposed_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    note: str | None
    booked_at: datetime | None
    wallet_key: strawberry.Private[WalletId]

    @strawberry.field
    async def wallet(self, info: Ctx) -> Wallet | None:
        """Whose balance."""
        return await find_wallet(info, self.wallet_key)


@strawberry.input
class ProposeAdjustmentInput:
    """What is to be corrected, in atomic units. `evidence`: where an examiner finds the proof."""

    idempotency_key: str
    wallet_id: strawberry.ID
    direction: AdjustmentDirection
    asset: str
    amount: str
    reason: AdjustmentReason
    evidence: str


@strawberry.input
class DecideAdjustmentInput:
    """A decision about an adjustment, and what is said with it."""

    idempotency_key: str
    id: strawberry.ID
    note: str


@strawberry.type
class AdjustmentPayload(Payload):
    """What came of it; the adjustment is null where it was refused."""

    adjustment: Adjustment | None = None


@strawberry.type
class AdjustmentQuery:
    """The part of the root that reads adjustments."""

    @strawberry.field
    async def adjustment(self, info: Ctx, id: strawberry.ID) -> Adjustment | None:  # noqa: A002 - Relay names the argument so
        """One adjustment."""
        return await find_adjustment(info, parse_id("adj", str(id)))

    @strawberry.field
    async def adjustments(
        self, info: Ctx, state: str | None = None, first: First = FIRST_DEFAULT, after: After = None
    ) -> Connection[Adjustment]:
        """Adjustments in one state or in any, newest first. What waits for a second person is `proposed`."""
        one_state(state, ADJUSTMENTS)
        named = f"adjustments-{state or 'all'}"
        before = parse_id_cursor(named, after)
        async with info.context.turn() as session:
            found = await adjustments.list_adjustments(
                session,
                state=state,
                before=None if before is None else AdjustmentId(before),
                limit=checked_size(first) + 1,
            )
        listed = await info.context.asset_register()
        return connect(
            named,
            found,
            first,
            after,
            key=lambda row: row.id,
            show=lambda row: show_adjustment(listed[row.wanted.amount.asset], row),
        )


@strawberry.type
class AdjustmentMutations:
    """The part of the root that proposes and decides."""

    @strawberry.mutation
    async def propose_adjustment(self, info: Ctx, input: ProposeAdjustmentInput) -> AdjustmentPayload:  # noqa: A002 - as above
        """Propose that a wallet is credited or debited. Nothing moves until somebody else confirms it."""
        caller = info.context.caller

        async def work() -> tuple[UUID, bool]:
            command = command_of(info, "proposeAdjustment", input)
            body = checked(
                routes.AdjustmentIn,
                wallet_id=str(input.wallet_id),
                direction=input.direction.value,
                asset=input.asset,
                amount=input.amount,
                reason=input.reason.value,
                evidence=input.evidence,
            )
            wallet = WalletId(parse_field_id("wal", body.wallet_id, "wallet_id"))

            async def effect(uow: UnitOfWork) -> UUID:
                asset = await load_asset(uow, body.asset)
                wanted = model.ProposeAdjustment(
                    id=AdjustmentId(new_uuid()),
                    wallet_id=wallet,
                    direction=model.Direction(body.direction),
                    amount=parse_money(asset, body.amount),
                    reason=model.Reason(body.reason),
                    evidence=body.evidence,
                )
                return (await adjustments.propose(uow, caller.principal, wanted)).id

            return await command.run(effect)

        done = await carry_out(caller, "adjustments:decide", MutationStatus.PENDING, work)
        found = None if done.id is None else await find_adjustment(fresh(info), done.id)
        return AdjustmentPayload(status=done.status, errors=done.errors, adjustment=found)

    @strawberry.mutation
    async def confirm_adjustment(self, info: Ctx, input: DecideAdjustmentInput) -> AdjustmentPayload:  # noqa: A002 - as above
        """Agree as the second person: it is posted at once."""
        return await _decide(info, "confirmAdjustment", input, adjustments.confirm)

    @strawberry.mutation
    async def reject_adjustment(self, info: Ctx, input: DecideAdjustmentInput) -> AdjustmentPayload:  # noqa: A002 - as above
        """Disagree as the second person. It is never posted."""
        return await _decide(info, "rejectAdjustment", input, adjustments.reject)

    @strawberry.mutation
    async def withdraw_adjustment(self, info: Ctx, input: DecideAdjustmentInput) -> AdjustmentPayload:  # noqa: A002 - as above
        """Take back what one proposed oneself, while nobody has decided."""
        return await _decide(info, "withdrawAdjustment", input, adjustments.withdraw)


async def _decide(info: Ctx, name: str, given: DecideAdjustmentInput, decide: Decide) -> AdjustmentPayload:
    caller = info.context.caller

    async def work() -> tuple[UUID, bool]:
        command = command_of(info, name, given)
        body = checked(routes.NoteIn, note=given.note)
        wanted = AdjustmentId(parse_field_id("adj", str(given.id), "id"))

        async def effect(uow: UnitOfWork) -> UUID:
            return (await decide(uow, caller.principal, wanted, body.note)).id

        return await command.run(effect)

    done = await carry_out(caller, "adjustments:decide", MutationStatus.DONE, work)
    found = None if done.id is None else await find_adjustment(fresh(info), done.id)
    return AdjustmentPayload(status=done.status, errors=done.errors, adjustment=found)


async def find_adjustment(info: Ctx, value: UUID) -> Adjustment | None:
    """An adjustment by id."""
    try:
        async with info.context.turn() as session:
            found = await adjustments.get(session, AdjustmentId(value))
    except NotFound:
        return None
    return show_adjustment(await info.context.asset(found.wanted.amount.asset), found)


def show_adjustment(asset: Asset, found: model.Adjustment) -> Adjustment:
    """An adjustment as it stands."""
    wanted = found.wanted
    return Adjustment(
        id=strawberry.ID(show_id("adj", found.id)),
        state=found.state,
        direction=wanted.direction.value,
        amount=show_money(asset, wanted.amount.atomic),
        reason=wanted.reason.value,
        evidence=wanted.evidence,
        proposed_by=found.proposed_by,
        proposed_at=found.proposed_at,
        decided_by=found.decided_by,
        decided_at=found.decided_at,
        note=found.note or None,
        booked_at=found.booked_at,
        wallet_key=wanted.wallet_id,
    )
