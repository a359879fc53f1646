"""Reconciliation without end: how each vault and asset stands, how it has stood, and what a difference stops."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from api.auth import Caller, requires
from api.errors import at
from api.idempotency import Command, commands
from api.paging import next_cursor, page_of, parse_pair_cursor, show_pair_cursor
from api.rest.shapes import (
    COMMAND_PROBLEMS,
    LIMIT_DEFAULT,
    READ_PROBLEMS,
    AssetPath,
    AssetText,
    AtomicText,
    Cursor,
    In,
    Limit,
    Out,
    PageOut,
    load_asset,
    show_time,
)
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.db.session import UnitOfWork
from custody.holdings import stops
from custody.holdings.model import Difference, HoldingBreak
from custody.holdings.series_model import POINTS_MAX, HoldingSeries, SeriesPoint, Which
from custody.holdings.stop_model import StopRule
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import VaultId, parse_id, show_id
from custody.kernel.money import parse_atomic
from custody.recon import continuous
from custody.recon.continuous import ContinuousState

router = APIRouter(prefix="/v1", tags=["reconciliation"], route_class=StrictRoute)
Reader = Annotated[Caller, Depends(requires("reconciliation:read"))]
Operate = Annotated[Command, Depends(commands("reconciliation:write"))]

VaultPath = Annotated[str, Path(max_length=40, examples=["vlt_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])]
Height = Annotated[int | None, Query(ge=0, le=2**62, description="Block or ledger.")]
SignedAtomic = Annotated[
    str,
    Field(
        max_length=80,
        description="Atomic units as a string of digits, with a minus sign below zero.",
        examples=["-100"],
    ),
]


class DifferenceOut(Out):
    """The first movement that is booked otherwise than it happened."""

    tx_hash: str = Field(description="The transaction that holds it.")
    movement: str = Field(
        description="`arrival:ORDINAL`, `departure`, `fee`; `transaction` where only the whole is known.",
        examples=["departure"],
    )
    on_chain: SignedAtomic = Field(description="What it moved.")
    in_books: SignedAtomic = Field(description="What we book of it.")


class BreakOut(Out):
    """Books and chain differ, or differed."""

    id: str = Field(examples=["brk_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"])
    state: str = Field(examples=["open"])
    height: str = Field(description="Where it was found.")
    difference: SignedAtomic = Field(description="What the books had too much when it was found.")
    difference_now: SignedAtomic = Field(description="What they have too much now; 0 once it is closed.")
    first_height: str = Field(description="The block to look at first.")
    first: DifferenceOut | None = Field(description="Null where no single movement explains it.")
    opened_at: str
    closed_height: str | None
    closed_at: str | None


class ReconciliationOut(Out):
    """One vault and asset at its chain's final height. Books, opening and chain are atomic units."""

    vault_id: str
    chain: str
    account: str
    purpose: str = Field(examples=["omnibus"])
    asset: AssetText
    code: str = Field(examples=["XLM"])
    decimals: int
    state: str = Field(
        description="`equal` or `broken`; `unread` before the first comparison.", examples=["equal"]
    )
    height: str | None = Field(description="Up to where books follow the chain.")
    books: AtomicText | None
    opening: SignedAtomic | None = Field(description="What lay there before we read; no booking explains it.")
    on_chain: AtomicText | None
    difference: SignedAtomic | None = Field(description="Books and opening less chain.")
    found: BreakOut | None = Field(description="The open break.")
    threshold: AtomicText = Field(description="By how much they may differ before payments wait.")
    stops_payments: bool = Field(description="Whether payments of this asset from this vault wait now.")


class PointOut(Out):
    """Both sides from this height on."""

    height: str
    at: str
    books: SignedAtomic = Field(description="Books and opening: what should lie on chain.")
    on_chain: SignedAtomic


class SeriesOut(Out):
    """One vault and asset over time. Between two points both sides are as at the first of them, if `exact`."""

    vault_id: str
    asset: AssetText
    code: str
    decimals: int
    height_from: str
    height_to: str
    exact: bool = Field(
        description="Whether every change is a point; else the points are samples, each exact."
    )
    points: list[PointOut]
    breaks: list[BreakOut] = Field(description="Those that were open in the range, newest first.")


class StopRuleIn(In):
    """By how much books and chain may differ."""

    asset: AssetText
    threshold: AtomicText = Field(
        description="Atomic units, either way. More stops payments of the asset from that vault."
    )
    note: str = Field(default="", max_length=200, description="Why.")


class StopRuleOut(Out):
    """A rule in force."""

    asset: AssetText
    threshold: AtomicText
    version: int
    set_by: str
    note: str


@router.get("/reconciliation", responses=READ_PROBLEMS)
async def list_reconciliation(
    caller: Reader, which: Which = "all", cursor: Cursor = None, limit: Limit = LIMIT_DEFAULT
) -> PageOut[ReconciliationOut]:
    """How vaults and assets stand: all; `standing`, without deposit addresses that are equal; or `broken` ones only."""
    start = parse_pair_cursor("reconciliation", cursor)
    after = None if start is None else (VaultId(start[0]), parse_asset_id(start[1]))
    async with caller.read() as session:
        page = page_of(await continuous.list_states(session, which, after=after, limit=limit + 1), limit)
        listed = {asset.id: asset for asset in await assets.list_assets(session)}
    return PageOut(
        data=[_show_state(listed[each.check.asset], each) for each in page.rows],
        next_cursor=next_cursor(
            page, lambda row: show_pair_cursor("reconciliation", row.check.vault_id, row.check.asset.text)
        ),
    )


@router.get("/reconciliation/{vault_id}/{asset:path}/series", responses=READ_PROBLEMS)
async def read_series(
    vault_id: VaultPath,
    asset: AssetPath,
    caller: Reader,
    height_from: Height = None,
    height_to: Height = None,
    points: Annotated[
        int, Query(ge=2, le=POINTS_MAX, description="How many points at most, beside the breaks' own.")
    ] = 300,
) -> SeriesOut:
    """Books against chain over time, from the first comparison to the final height unless told otherwise."""
    wanted = VaultId(parse_id("vlt", vault_id))
    async with caller.read() as session:
        listed = await load_asset(session, asset)
        found = await continuous.read_series(
            session, wanted, listed.id, height_from=height_from, height_to=height_to, points=points
        )
    return _show_series(vault_id, listed, found)


@router.get("/stop-rules", responses=READ_PROBLEMS)
async def list_stop_rules(caller: Reader) -> PageOut[StopRuleOut]:
    """By how much books and chain may differ, per asset that has a rule. Without one, any difference stops payments."""
    async with caller.read() as session:
        found = await stops.list_rules(session)
    return PageOut(data=[_show_rule(rule) for rule in found], next_cursor=None)


@router.post("/stop-rules", status_code=200, response_model=StopRuleOut, responses=COMMAND_PROBLEMS)
async def set_stop_rule(body: StopRuleIn, command: Operate) -> Response:
    """Say by how much books and chain of an asset may differ from now on before payments of it wait."""
    with at("/threshold"):
        threshold = parse_atomic(body.threshold)

    async def effect(uow: UnitOfWork) -> StopRuleOut:
        asset = await load_asset(uow, body.asset)
        subject = command.principal.subject
        return _show_rule(await stops.set_threshold(uow, subject, asset.id, threshold, body.note))

    return await command.run(effect, status=200)


def _show_state(asset: Asset, found: ContinuousState) -> ReconciliationOut:
    check, last = found.check, found.check.last
    state = "unread" if last is None else "equal" if check.found is None else "broken"
    return ReconciliationOut(
        vault_id=show_id("vlt", check.vault_id),
        chain=check.chain,
        account=check.account,
        purpose=check.purpose,
        asset=asset.id.text,
        code=asset.code,
        decimals=asset.decimals,
        state=state,
        height=None if found.height is None else str(found.height),
        books=None if last is None else str(last.books),
        opening=None if last is None else str(last.opening),
        on_chain=None if last is None else str(last.chain),
        difference=None if last is None else str(last.difference),
        found=None if check.found is None else _show_break(check.found),
        threshold=str(check.threshold),
        stops_payments=found.stops_payments,
    )


def _show_series(vault_id: str, asset: Asset, found: HoldingSeries) -> SeriesOut:
    return SeriesOut(
        vault_id=vault_id,
        asset=asset.id.text,
        code=asset.code,
        decimals=asset.decimals,
        height_from=str(found.height_from),
        height_to=str(found.height_to),
        exact=found.exact,
        points=[_show_point(each) for each in found.points],
        breaks=[_show_break(each) for each in found.breaks],
    )


def _show_point(point: SeriesPoint) -> PointOut:
    compared = point.compared
    return PointOut(
        height=str(compared.height),
        at=show_time(point.at),
        books=str(compared.books + compared.opening),
        on_chain=str(compared.chain),
    )


def _show_break(found: HoldingBreak) -> BreakOut:
    return BreakOut(
        id=show_id("brk", found.id),
        state=found.state,
        height=str(found.opened.height),
        difference=str(found.opened.difference),
        difference_now=str(found.difference),
        first_height=str(found.first_height),
        first=None if found.first is None else _show_difference(found.first),
        opened_at=show_time(found.opened_at),
        closed_height=None if found.closed_height is None else str(found.closed_height),
        closed_at=None if found.closed_at is None else show_time(found.closed_at),
    )


def _show_difference(found: Difference) -> DifferenceOut:
    return DifferenceOut(
        tx_hash=found.tx_hash, movement=found.movement, on_chain=str(found.chain), in_books=str(found.books)
    )


def _show_rule(rule: StopRule) -> StopRuleOut:
    return StopRuleOut(
        asset=rule.asset.text,
        threshold=str(rule.threshold),
        version=rule.version,
        set_by=rule.set_by,
        note=rule.note,
    )
