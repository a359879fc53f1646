"""Withdrawals: money that leaves for an address outside, once approvers have signed for it."""

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
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.fees import FeeOut, show_fee
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    AmountOut,
    AssetText,
    AtomicText,
    Cursor,
    Empty,
    In,
    Limit,
    Moment,
    Out,
    PageOut,
    ShownId,
    load_asset,
    parse_field_id,
    parse_moment,
    parse_money,
    show_amount,
    show_time,
)
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.chains import address as addresses
from custody.chains.stellar.receivers import Receiver
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.errors import InvalidInput
from custody.kernel.ids import QuoteId, WalletId, WithdrawalId, new_uuid, parse_id, show_id
from custody.screening.model import Result
from custody.settings import Settings
from custody.withdrawals import receivers, voids
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import NO_MEMO, Attempt, Memo, RequestWithdrawal, Withdrawal
from custody.withdrawals.transitions import WITHDRAWALS

router = APIRouter(prefix="/v1/withdrawals", tags=["withdrawals"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("withdrawals:read"))]
Write = Annotated[Command, Depends(commands("withdrawals:request"))]
Operate = Annotated[Command, Depends(commands("withdrawals:operate"))]
Cancel = Annotated[Command, Depends(commands("withdrawals:cancel"))]

WithdrawalPath = Annotated[str, Path(max_length=40, examples=["wdr_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]


class WindowTooLong(InvalidInput):
    """More time is asked for than a withdrawal may wait for its approvers."""

    code = "window_too_long"
    public = "Approvers cannot be given more time than is configured."


class MemoIn(In):
    """What a Stellar payment says to its receiver, when the address is not a muxed one."""

    type: Literal["id", "text", "hash"] = Field(examples=["id"])
    value: str = Field(
        min_length=1,
        max_length=64,
        description="A number below 2^64, up to 28 characters, or 64 hex digits.",
        examples=["7001"],
    )


class WithdrawalIn(In):
    """A withdrawal as it is asked for. The receiver gets the amount; its fee by the tariff comes on top, the network's is the
    tenant's."""

    wallet_id: ShownId = Field(examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    asset: AssetText
    amount: AtomicText
    destination: str = Field(
        min_length=1,
        max_length=128,
        description="Address on the asset's chain: G or M on Stellar, EIP-55 on EVM chains.",
        examples=["GBRPYHIL2CI3FNQ4BXLFMNDLFJUNPU2HY3ZMFSHONUCEOASW7QC7OX2H"],
    )
    memo: MemoIn | None = None
    quote_id: ShownId | None = Field(
        default=None,
        description="The quote that it was agreed by; without it the tariff in force is applied.",
        examples=["qte_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"],
    )
    expires_in_s: int | None = Field(
        default=None,
        ge=1,
        description="How long approvers have; at most, and without it, what is configured.",
        examples=[3600],
    )
    execute_after: Moment | None = Field(
        default=None,
        description="Before when it is not carried out, with its offset from UTC. The approvers' window has to reach beyond it.",
        examples=["2026-12-01T09:00:00Z"],
    )


class ConcedeIn(In):
    """What used the nonce."""

    tx_hash: str = Field(
        pattern="^0x[0-9a-f]{64}$",
        description="Hash of the transaction, lower-case.",
        examples=["0x9f2c4e6a8b0d1f3355779911bbddff00224466880aaccee1133557799bbddff0"],
    )


class AttemptOut(Out):
    """One transaction that carries a withdrawal out."""

    number: int
    state: str = Field(examples=["broadcast"])
    sequence: str = Field(description="Stellar sequence number or EVM nonce.")
    tx_hash: str | None
    height: int | None = Field(description="Block that holds it.")
    fee_atomic: AtomicText | None = Field(description="What the network took, in its own currency.")


class WithdrawalOut(Out):
    """A withdrawal as it stands."""

    id: str = Field(examples=["wdr_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    kind: str = Field(
        description="`payment`; `return` of a suspended deposit; `refill` from one vault to another; `sweep` of a deposit "
        "address; `change_trust` for a vault's trustline, `memo_required` for its wish for memos; `anchor` for a checkpoint's "
        "hash on chain; `fee_bump` for a withdrawal that is stuck; `evm_cancel` and `evm_fill` use up a nonce for nothing."
    )
    state: str = Field(description=f"One of {', '.join(WITHDRAWALS.states)}.", examples=["awaiting_approval"])
    wallet_id: str | None
    vault_id: str
    amount: AmountOut
    fee: FeeOut | None = Field(
        description="What it costs the wallet on top; null where no tariff was in force."
    )
    destination: str
    memo: MemoIn | None
    intent_kind: str = Field(
        description="Kind of the intent, as approvers see it: by what form the receiver is paid. On Stellar "
        "`stellar_create_account` opens its account, `stellar_create_claimable_balance` sets the amount aside for it to claim.",
        examples=["stellar_payment"],
    )
    digest: str = Field(description="Names the intent; what approvers sign for. Hexadecimal.")
    reason: str | None = Field(description="Why it ended without being paid.")
    stuck: str | None = Field(
        description="Why it goes no further by itself and a person should look; null while it moves.",
        examples=[None],
    )
    expires_at: str
    execute_after: str | None = Field(description="Before when it is not carried out, as it was asked for.")
    cool_until: str | None = Field(
        description="Until when it cools, or cooled, down once approved; null where nothing had it wait."
    )
    created_at: str
    changed_at: str


class ScreeningOut(Out):
    """What somebody said about the receiver."""

    screener: str = Field(
        description="`list` for the tenant's own list, or the outside screener's name.", examples=["list"]
    )
    finding: str = Field(description="`clear`, `hit` or `unknown`.", examples=["clear"])
    detail: str
    list_version: int | None = Field(description="Which rows of the list were known.")
    reference: str = Field(description="Ours; the same however often the screener is asked.")
    created_at: str


class WithdrawalDetail(WithdrawalOut):
    """A withdrawal with its attempts and what was said about its receiver."""

    attempts: list[AttemptOut]
    screenings: list[ScreeningOut]


@router.post("", status_code=201, response_model=WithdrawalOut, responses=COMMAND_PROBLEMS)
async def request_withdrawal(body: WithdrawalIn, command: Write) -> Response:
    """Ask for a withdrawal. The amount is held on the wallet from now until it is settled or released."""
    wallet_id = WalletId(parse_field_id("wal", body.wallet_id, "wallet_id"))
    quote_id = None if body.quote_id is None else QuoteId(parse_field_id("qte", body.quote_id, "quote_id"))
    withdrawal_id = WithdrawalId(new_uuid())
    settings = with_window(command.app.settings, body.expires_in_s)
    execute_after = None if body.execute_after is None else parse_moment(body.execute_after, "execute_after")
    if (done := await command.recorded()) is not None:
        return done
    receiver = await look_up_receiver(command.app.clients, body.asset, body.destination)

    async def effect(uow: UnitOfWork) -> WithdrawalOut:
        asset = await load_asset(uow, body.asset)
        amount = parse_money(asset, body.amount)
        with at("/destination"):
            addresses.parse(asset.id.chain, body.destination)
        wanted = RequestWithdrawal(
            id=withdrawal_id,
            wallet_id=wallet_id,
            asset=asset.id,
            destination=body.destination,
            amount=amount.atomic,
            memo=NO_MEMO if body.memo is None else Memo(type=body.memo.type, value=body.memo.value),
            execute_after=execute_after,
            quote_id=quote_id,
        )
        made = await withdrawals.request(
            uow, command.principal, wanted, settings=settings, clock=command.app.clock, receiver=receiver
        )
        return await show_withdrawal(uow, made)

    return await command.run(effect)


@router.get("", responses=READ_PROBLEMS)
async def list_withdrawals(
    caller: Reader, cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[WithdrawalOut]:
    """Withdrawals, oldest first."""
    after = parse_id_cursor("withdrawals", cursor)
    async with caller.read() as session:
        page = page_of(
            await withdrawals.list_withdrawals(
                session, None if after is None else WithdrawalId(after), limit + 1
            ),
            limit,
        )
        shown = [await show_withdrawal(session, row) for row in page.rows]
    return PageOut(data=shown, next_cursor=next_cursor(page, lambda row: show_cursor("withdrawals", row.id)))


@router.get("/{withdrawal_id}", responses=READ_PROBLEMS)
async def get_withdrawal(withdrawal_id: WithdrawalPath, caller: Reader) -> WithdrawalDetail:
    """One withdrawal with its attempts."""
    async with caller.read() as session:
        view = await withdrawals.view(session, WithdrawalId(parse_id("wdr", withdrawal_id)))
        shown = await show_withdrawal(session, view.withdrawal)
    return WithdrawalDetail(
        **shown.__dict__,
        attempts=[show_attempt(attempt) for attempt in view.attempts],
        screenings=[show_screening(result) for result in view.screenings],
    )


@router.post(
    "/{withdrawal_id}/cancel", status_code=200, response_model=WithdrawalOut, responses=COMMAND_PROBLEMS
)
async def cancel_withdrawal(
    withdrawal_id: WithdrawalPath, command: Cancel, _: Empty | None = None
) -> Response:
    """Take a withdrawal back while no key can have been touched. Its hold is released."""
    wanted = WithdrawalId(parse_id("wdr", withdrawal_id))
    if (done := await command.recorded()) is not None:
        return done
    async with command.read() as session:
        found = await withdrawals.get(session, wanted)
    voided = await voids.void_approved(command.app.signer, [found])

    async def effect(uow: UnitOfWork) -> WithdrawalOut:
        return await show_withdrawal(uow, await voids.cancel(uow, command.principal, wanted, voided))

    return await command.run(effect, status=200)


@router.post(
    "/{withdrawal_id}/cancel-nonce", status_code=201, response_model=WithdrawalOut, responses=COMMAND_PROBLEMS
)
async def cancel_nonce(withdrawal_id: WithdrawalPath, command: Operate, _: Empty | None = None) -> Response:
    """Have the nonce on which an EVM withdrawal waits used up for nothing: an operation of its own, approved like a withdrawal.

    The withdrawal may be paid all the same. It ends when one of the two is final: unpaid, if that is the cancel.
    """
    target = WithdrawalId(parse_id("wdr", withdrawal_id))
    operation_id = WithdrawalId(new_uuid())

    async def effect(uow: UnitOfWork) -> WithdrawalOut:
        asked = await withdrawals.request_cancel(
            uow,
            command.principal,
            operation_id,
            target,
            settings=command.app.settings,
            clock=command.app.clock,
        )
        return await show_withdrawal(uow, asked)

    return await command.run(effect)


@router.post(
    "/{withdrawal_id}/concede", status_code=200, response_model=WithdrawalOut, responses=COMMAND_PROBLEMS
)
async def concede_nonce(withdrawal_id: WithdrawalPath, body: ConcedeIn, command: Operate) -> Response:
    """State that a transaction which is none of ours used a withdrawal's nonce and did not pay it. Its hold is released.

    Only for a transaction that is final and was told as `vault.unknown_transaction`. It cannot be taken back.
    """
    wanted = WithdrawalId(parse_id("wdr", withdrawal_id))

    async def effect(uow: UnitOfWork) -> WithdrawalOut:
        ended = await withdrawals.concede(uow, command.principal, wanted, body.tx_hash)
        return await show_withdrawal(uow, ended)

    return await command.run(effect, status=200)


async def show_withdrawal(session: ReadSession, found: Withdrawal) -> WithdrawalOut:
    """A withdrawal as responses carry it."""
    asset = await assets.get(session, found.asset)
    return WithdrawalOut(
        id=show_id("wdr", found.id),
        kind=found.kind,
        state=found.state,
        wallet_id=_shown("wal", found.wallet_id),
        vault_id=show_id("vlt", found.vault_id),
        amount=show_amount(asset, found.amount),
        fee=None if found.fee is None else show_fee(asset, found.fee),
        destination=found.destination,
        memo=None if found.memo.type == "none" else MemoIn(type=found.memo.type, value=found.memo.value),
        intent_kind=withdrawals.intent_kind(found),
        digest=found.digest.hex(),
        reason=found.reason or None,
        stuck=found.stuck_reason or None,
        expires_at=show_time(found.expires_at),
        execute_after=None if found.execute_after is None else show_time(found.execute_after),
        cool_until=None if found.cool_until is None else show_time(found.cool_until),
        created_at=show_time(found.created_at),
        changed_at=show_time(found.changed_at),
    )


async def look_up_receiver(
    clients: Mapping[ChainId, object], asset: str, destination: str
) -> Receiver | None:
    """What the chain says of the receiver, before any transaction is open. What cannot be parsed the request itself refuses."""
    try:
        parsed = parse_asset_id(asset)
    except InvalidInput:
        return None
    return await receivers.look_up(clients, parsed, destination)


def show_attempt(attempt: Attempt) -> AttemptOut:
    """An attempt as responses carry it. Its signed bytes are nobody's business until they are on chain."""
    return AttemptOut(
        number=attempt.number,
        state=attempt.state,
        sequence=str(attempt.sequence),
        tx_hash=attempt.tx_hash,
        height=attempt.height,
        fee_atomic=None if attempt.fee_paid is None else str(attempt.fee_paid),
    )


def show_screening(result: Result) -> ScreeningOut:
    """What was said about a receiver, as responses carry it."""
    return ScreeningOut(
        screener=result.screener,
        finding=result.finding.value,
        detail=result.detail,
        list_version=result.list_version,
        reference=str(result.reference),
        created_at=show_time(result.created_at),
    )


def with_window(settings: Settings, expires_in_s: int | None) -> Settings:
    """The settings with the shorter window that the caller asked for. Raises WindowTooLong at /expires_in_s."""
    if expires_in_s is None:
        return settings
    if expires_in_s > settings.intent_valid_s:
        with at("/expires_in_s"):
            raise WindowTooLong(max_s=settings.intent_valid_s)
    return settings.model_copy(update={"intent_valid_s": expires_in_s})


def _shown(prefix: str, value: UUID | None) -> str | None:
    return None if value is None else show_id(prefix, value)
