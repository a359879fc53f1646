"""Cases: deposits that no wallet could be credited with, and what operators decide about them; what is taken as a deposit at
all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_id_cursor, show_cursor
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    AmountOut,
    AssetText,
    AtomicText,
    Cursor,
    In,
    Limit,
    Out,
    PageOut,
    ShownId,
    load_asset,
    parse_field_id,
    show_amount,
    show_time,
)
from api.rest.withdrawal_shapes import MemoIn
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.chains.stellar.memo import show_words
from custody.db.session import ReadSession, UnitOfWork
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.deposits.model import DepositCase, DepositRule, Reason
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import CaseId, WalletId, WithdrawalId, new_uuid, parse_id, show_id
from custody.kernel.money import parse_atomic
from custody.returns import service as returns
from custody.returns.execution import look_up
from custody.returns.service import RequestReturn
from custody.withdrawals.model import NO_MEMO, Memo

router = APIRouter(prefix="/v1", tags=["cases"], route_class=StrictRoute)

Reader = Annotated[Caller, Depends(requires("cases:read"))]
Operate = Annotated[Command, Depends(commands("cases:decide"))]
SetRule = Annotated[Command, Depends(commands("cases:rules"))]

CasePath = Annotated[str, Path(max_length=40, examples=["cas_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
CaseState = Literal["open", "ignored", "assigned", "returning", "returned", "dismissed", "listed", "orphaned"]
ReasonText = Literal[
    "memo_missing",
    "unknown_memo",
    "unattributed",
    "chain_not_enabled",
    "unsupported_asset",
    "below_minimum",
    "dust",
    "account_closed",
    "account_refused",
]
Note = Annotated[
    str, Field(max_length=cases.NOTE_MAX, description="Why, for the audit log.", examples=["ticket 7421"])
]


class ArrivalOut(Out):
    """What the chain says of a deposit."""

    chain: str = Field(examples=["stellar:devnet"])
    height: int
    tx_hash: str
    source: str = Field(
        description="Where it came from. Shown, never trusted: many senders share one account."
    )
    account: str
    tag: str | None = Field(description="Muxed id or memo id.")
    memo: str | None = Field(description="Memo of another type: text, or hexadecimal digits.")
    memo_type: Literal["text", "bytes", "hash"] | None = Field(
        description="`bytes` is text that is no UTF-8. The chain tells return memos as `hash`."
    )
    occurred_at: str


class CaseOut(Out):
    """A deposit that no wallet could be credited with."""

    id: str = Field(examples=["cas_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    deposit_id: str
    state: CaseState
    reason: ReasonText
    asset: AssetText
    atomic: AtomicText
    amount: AmountOut | None = Field(
        description="The same with decimals; null while the asset is not listed."
    )
    arrival: ArrivalOut
    named_wallet_id: str | None = Field(description="The wallet that the sender named, if any.")
    wallet_id: str | None = Field(description="The wallet that it was assigned to.")
    withdrawal_id: str | None = Field(description="The withdrawal that returns it.")
    decided_by: str | None
    note: str | None
    opened_at: str
    changed_at: str


class AssignIn(In):
    """Whose money it is."""

    wallet_id: ShownId = Field(examples=["wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    note: Note = ""


class ReturnIn(In):
    """Where the money goes back to. Memo and destination are asked for although the source is known: an exchange's account holds
    many people's money, and its operator alone can say how it wants to be paid."""

    destination: str = Field(
        min_length=1,
        max_length=128,
        description="The account that the deposit came from, or a muxed address of it.",
        examples=["GBRPYHIL2CI3FNQ4BXLFMNDLFJUNPU2HY3ZMFSHONUCEOASW7QC7OX2H"],
    )
    memo: MemoIn | None = Field(description="Must be there: null says that none is needed.")
    note: Note = ""


class DismissIn(In):
    """Why nothing shall be done."""

    note: Note = ""


class RuleIn(In):
    """What is taken as a deposit of one asset. Zero: every amount."""

    asset: AssetText
    minimum: AtomicText = Field(description="Less is suspended with a case `below_minimum`.")
    dust: AtomicText = Field(description="Less is suspended with a case `dust`, about which nobody is asked.")
    distrusted: Literal["refuse", "mark"] = Field(
        default="refuse",
        description="What its contract's balance contradicts is not booked, or suspended with a case `distrusted`.",
    )


class RuleOut(RuleIn):
    """A rule as it stands."""

    model_config = Out.model_config


@router.get("/cases", responses=READ_PROBLEMS)
async def list_cases(
    caller: Reader,
    state: Annotated[list[CaseState] | None, Query(description="Only these states.", max_length=8)] = None,
    reason: Annotated[list[ReasonText] | None, Query(description="Only these reasons.", max_length=8)] = None,
    asset: Annotated[str | None, Query(max_length=160, description="Only this asset.")] = None,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[CaseOut]:
    """Cases in the order they were opened. `?state=open` is the queue of those that wait for a person."""
    after = parse_id_cursor("cases", cursor)
    with at("/asset"):
        wanted = None if asset is None else parse_asset_id(asset)
    async with caller.read() as session:
        found = await cases.list_cases(
            session,
            states=state or (),
            reasons=[Reason(each) for each in reason or ()],
            asset=wanted,
            after=None if after is None else CaseId(after),
            limit=limit + 1,
        )
        page = page_of(found, limit)
        shown = await show_cases(session, page.rows)
    return PageOut(data=shown, next_cursor=next_cursor(page, lambda row: show_cursor("cases", row.id)))


@router.get("/cases/{case_id}", responses=READ_PROBLEMS)
async def get_case(case_id: CasePath, caller: Reader) -> CaseOut:
    """One case."""
    async with caller.read() as session:
        return await show_case(session, await cases.get_case(session, CaseId(parse_id("cas", case_id))))


@router.post("/cases/{case_id}/assign", status_code=200, response_model=CaseOut, responses=COMMAND_PROBLEMS)
async def assign_case(case_id: CasePath, body: AssignIn, command: Operate) -> Response:
    """Credit the money to a wallet. At once and for good: what the wallet does with it is its own business from then on."""
    wanted = CaseId(parse_id("cas", case_id))
    wallet_id = WalletId(parse_field_id("wal", body.wallet_id, "wallet_id"))

    async def effect(uow: UnitOfWork) -> CaseOut:
        done = await cases.assign(uow, command.principal.subject, wanted, wallet_id, body.note)
        return await show_case(uow, done)

    return await command.run(effect, status=200)


@router.post("/cases/{case_id}/return", status_code=201, response_model=CaseOut, responses=COMMAND_PROBLEMS)
async def return_case(case_id: CasePath, body: ReturnIn, command: Operate) -> Response:
    """Ask for the money to be paid back to its sender. The withdrawal that does it goes through approval like any other; when it
    ends unpaid, the case is open again."""
    wanted = CaseId(parse_id("cas", case_id))
    withdrawal_id = WithdrawalId(new_uuid())
    memo = NO_MEMO if body.memo is None else Memo(type=body.memo.type, value=body.memo.value)
    if (done := await command.recorded()) is not None:
        return done
    app, tenant = command.app, command.principal.tenant
    receiver = await look_up(app.db, app.clients, tenant, wanted, body.destination)

    async def effect(uow: UnitOfWork) -> CaseOut:
        asked = RequestReturn(
            id=withdrawal_id, case_id=wanted, destination=body.destination, memo=memo, note=body.note
        )
        case, _ = await returns.request(
            uow, command.principal, asked, settings=app.settings, clock=app.clock, receiver=receiver
        )
        return await show_case(uow, case)

    return await command.run(effect)


@router.post("/cases/{case_id}/dismiss", status_code=200, response_model=CaseOut, responses=COMMAND_PROBLEMS)
async def dismiss_case(case_id: CasePath, body: DismissIn, command: Operate) -> Response:
    """Want nothing done about an arrival of an unlisted asset. Money in suspense is somebody's and cannot be dismissed."""
    wanted = CaseId(parse_id("cas", case_id))

    async def effect(uow: UnitOfWork) -> CaseOut:
        return await show_case(uow, await cases.dismiss(uow, command.principal.subject, wanted, body.note))

    return await command.run(effect, status=200)


@router.get("/deposit-rules", responses=READ_PROBLEMS)
async def list_rules(caller: Reader) -> PageOut[RuleOut]:
    """What is taken as a deposit, per asset that has a rule."""
    async with caller.read() as session:
        found = await cases.list_rules(session)
    return PageOut(data=[show_rule(asset, rule) for asset, rule in found.items()], next_cursor=None)


@router.post("/deposit-rules", status_code=200, response_model=RuleOut, responses=COMMAND_PROBLEMS)
async def set_rule(body: RuleIn, command: SetRule) -> Response:
    """Say what is taken as a deposit of an asset from now on. What is booked already stays as it is."""
    with at("/minimum"):
        minimum = parse_atomic(body.minimum)
    with at("/dust"):
        dust = parse_atomic(body.dust)

    async def effect(uow: UnitOfWork) -> RuleOut:
        asset = await load_asset(uow, body.asset)
        with at("/asset"):
            rule = await cases.set_rule(
                uow,
                command.principal.subject,
                asset.id,
                DepositRule(minimum=minimum, dust=dust, distrusted=body.distrusted),
            )
        return show_rule(asset.id, rule)

    return await command.run(effect, status=200)


async def show_case(session: ReadSession, case: DepositCase) -> CaseOut:
    """A case as responses carry it."""
    return (await show_cases(session, [case]))[0]


async def show_cases(session: ReadSession, found: Sequence[DepositCase]) -> list[CaseOut]:
    """Cases as responses carry them."""
    listed = {asset.id: asset for asset in await assets.list_assets(session)}
    arrived = {
        each.id: each for each in await deposits.find_deposits(session, [case.deposit_id for case in found])
    }
    shown = []
    for case in found:
        asset, seen = listed.get(case.asset), arrived[case.deposit_id].transfer
        shown.append(
            CaseOut(
                id=show_id("cas", case.id),
                deposit_id=show_id("dep", case.deposit_id),
                state=case.state,
                reason=case.reason.value,
                asset=case.asset.text,
                atomic=str(case.amount),
                amount=None if asset is None else show_amount(asset, case.amount),
                arrival=ArrivalOut(
                    chain=seen.chain,
                    height=seen.height,
                    tx_hash=seen.tx_hash,
                    source=seen.source,
                    account=seen.account,
                    tag=None if seen.tag is None else str(seen.tag),
                    memo=show_words(seen.memo) if seen.memo else None,
                    memo_type=seen.memo.partition(":")[0] or None,
                    occurred_at=show_time(seen.occurred_at),
                ),
                named_wallet_id=_shown("wal", case.named_wallet_id),
                wallet_id=_shown("wal", case.wallet_id),
                withdrawal_id=_shown("wdr", case.withdrawal_id),
                decided_by=case.decided_by or None,
                note=case.note or None,
                opened_at=show_time(case.opened_at),
                changed_at=show_time(case.changed_at),
            )
        )
    return shown


def show_rule(asset: AssetId, rule: DepositRule) -> RuleOut:
    """A rule as responses carry it."""
    return RuleOut(
        asset=asset.text, minimum=str(rule.minimum), dust=str(rule.dust), distrusted=rule.distrusted
    )


def _shown(prefix: str, value: UUID | None) -> str | None:
    return None if value is None else show_id(prefix, value)
