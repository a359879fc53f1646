"""Withdrawals: money that leaves for an address outside, once approvers have signed for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.filters import OLDEST_FIRST, Direction, OfWallet, asked_state, asked_wallet, states_of, walk_of
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    AssetText,
    AtomicText,
    Cursor,
    Empty,
    In,
    Limit,
    Moment,
    PageOut,
    ShownId,
    load_asset,
    parse_field_id,
    parse_moment,
    parse_money,
)
from api.rest.withdrawal_shapes import (
    MemoIn,
    WithdrawalDetail,
    WithdrawalOut,
    describe_withdrawal,
    show_attempt,
    show_screening,
    show_withdrawal,
)
from api.strict_json import StrictRoute
from custody.chains import address as addresses
from custody.chains.stellar.receivers import Receiver
from custody.db.session import UnitOfWork
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.errors import InvalidInput
from custody.kernel.ids import QuoteId, WalletId, WithdrawalId, new_uuid, parse_id
from custody.settings import Settings
from custody.withdrawals import receivers, voids
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import NO_MEMO, Memo, RequestWithdrawal
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
    caller: Reader,
    wallet_id: OfWallet = None,
    state: Annotated[str | None, states_of(WITHDRAWALS)] = None,
    order: Direction = OLDEST_FIRST,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[WithdrawalOut]:
    """Withdrawals by when they were asked for."""
    named = walk_of("withdrawals", order)
    after, wallet, states = (
        parse_id_cursor(named, cursor),
        asked_wallet(wallet_id),
        asked_state(state, WITHDRAWALS),
    )
    async with caller.read() as session:
        found = await withdrawals.list_withdrawals(
            session,
            None if after is None else WithdrawalId(after),
            limit + 1,
            wallet_id=wallet,
            states=states,
            newest_first=order != OLDEST_FIRST,
        )
    page = page_of(found, limit)
    listed = await caller.listed([row.asset for row in page.rows])
    return PageOut(
        data=[describe_withdrawal(listed[row.asset], row) for row in page.rows],
        next_cursor=next_cursor(page, lambda row: show_cursor(named, row.id)),
    )


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


async def look_up_receiver(
    clients: Mapping[ChainId, object], asset: str, destination: str
) -> Receiver | None:
    """What the chain says of the receiver, before any transaction is open. What cannot be parsed the request itself refuses."""
    try:
        parsed = parse_asset_id(asset)
    except InvalidInput:
        return None
    return await receivers.look_up(clients, parsed, destination)


def with_window(settings: Settings, expires_in_s: int | None) -> Settings:
    """The settings with the shorter window that the caller asked for. Raises WindowTooLong at /expires_in_s."""
    if expires_in_s is None:
        return settings
    if expires_in_s > settings.intent_valid_s:
        with at("/expires_in_s"):
            raise WindowTooLong(max_s=settings.intent_valid_s)
    return settings.model_copy(update={"intent_valid_s": expires_in_s})
