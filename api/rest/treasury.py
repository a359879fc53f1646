"""The treasury: when deposit addresses are swept, between which amounts vaults stay, and what lies where."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
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
    load_asset,
    show_amount,
    show_time,
)
from api.strict_json import StrictRoute
from custody.assets import service as assets
from custody.db.session import UnitOfWork
from custody.kernel.ids import show_id
from custody.kernel.money import parse_atomic
from custody.treasury import service
from custody.treasury.model import SweepRule, Target, Verdict

router = APIRouter(prefix="/v1/treasury", tags=["treasury"], route_class=StrictRoute)
Operate = Annotated[Command, Depends(commands("treasury:write"))]

Operator = Annotated[Caller, Depends(requires("treasury:read"))]
PurposeText = Literal["omnibus", "warm", "gas"]


class SweepRuleIn(In):
    """When an asset is swept from deposit addresses. What is not said is at its default: every rule is set as a whole."""

    asset: AssetText
    threshold: AtomicText
    dust: AtomicText = "0"
    max_age_s: int | None = Field(
        default=None, ge=1, description="Less than the threshold is swept too once it has lain so long."
    )
    fee_max: str = Field(
        max_length=80,
        description="The most that one sweep may cost, in atomic units of the chain's own currency.",
        examples=["2000000000000000"],
    )
    fee_share_max_bp: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="The same in hundredths of a percent of the amount; for the chain's own currency only.",
    )
    enabled: bool = True


class SweepRuleOut(SweepRuleIn):
    """A rule as it stands."""

    model_config = Out.model_config


class TargetIn(In):
    """Between which amounts of an asset the vaults of a purpose stay."""

    purpose: PurposeText
    asset: AssetText
    low: AtomicText
    target: AtomicText
    high: AtomicText
    enabled: bool = True


class TargetOut(Out):
    """Levels as they stand."""

    purpose: str = Field(examples=["omnibus"])
    asset: AssetText
    low: AtomicText
    target: AtomicText
    high: AtomicText
    enabled: bool


class TotalOut(Out):
    """All that lies at deposit addresses of one asset under one verdict."""

    verdict: Verdict
    addresses: int
    amount: AmountOut


class StandingOut(Out):
    """How much of an asset one vault has."""

    vault_id: str
    purpose: str = Field(description="`omnibus` is hot; `warm`, `cold`, `gas`.")
    chain: str
    posted: AmountOut
    available: AmountOut
    low: str | None = Field(description="Levels in atomic units; null where there are none.")
    target: str | None
    high: str | None


class StatusOut(Out):
    """What lies where."""

    deposit_addresses: list[TotalOut] = Field(description="As the worker saw them last.")
    vaults: list[StandingOut]


class HoldingOut(Out):
    """What lies at one deposit address."""

    vault_id: str
    verdict: Verdict
    detail: str | None = Field(description="Code of the refusal, where it was refused.")
    amount: AmountOut
    since: str


@router.get("/rules", responses=READ_PROBLEMS)
async def list_sweep_rules(caller: Operator) -> PageOut[SweepRuleOut]:
    """When deposit addresses are swept, per asset that has a rule; any other is left where it is."""
    async with caller.read() as session:
        found = await service.list_rules(session)
    return PageOut(data=[show_sweep_rule(rule) for rule in found], next_cursor=None)


@router.post("/rules", status_code=200, response_model=SweepRuleOut, responses=COMMAND_PROBLEMS)
async def set_sweep_rule(body: SweepRuleIn, command: Operate) -> Response:
    """Say when an asset is swept from now on. The worker asks for each sweep under the signer's policy."""
    amounts = {}
    for name in ("threshold", "dust", "fee_max"):
        with at(f"/{name}"):
            amounts[name] = parse_atomic(getattr(body, name))

    async def effect(uow: UnitOfWork) -> SweepRuleOut:
        asset = await load_asset(uow, body.asset)
        rule = SweepRule(
            asset=asset.id,
            max_age_s=body.max_age_s,
            fee_share_max_bp=body.fee_share_max_bp,
            enabled=body.enabled,
            **amounts,
        )
        return show_sweep_rule(await service.set_rule(uow, command.principal.subject, rule))

    return await command.run(effect, status=200)


@router.get("/targets", responses=READ_PROBLEMS)
async def list_targets(caller: Operator) -> PageOut[TargetOut]:
    """Between which amounts vaults stay."""
    async with caller.read() as session:
        found = await service.list_targets(session)
    return PageOut(data=[show_target(each) for each in found], next_cursor=None)


@router.post("/targets", status_code=200, response_model=TargetOut, responses=COMMAND_PROBLEMS)
async def set_target(body: TargetIn, command: Operate) -> Response:
    """Set the levels of a purpose and an asset. What they move is asked for like a withdrawal, and approved like one."""
    amounts = {}
    for name in ("low", "target", "high"):
        with at(f"/{name}"):
            amounts[name] = parse_atomic(getattr(body, name))

    async def effect(uow: UnitOfWork) -> TargetOut:
        asset = await load_asset(uow, body.asset)
        wanted = Target(purpose=body.purpose, asset=asset.id, enabled=body.enabled, **amounts)
        return show_target(await service.set_target(uow, command.principal.subject, wanted))

    return await command.run(effect, status=200)


@router.get("/status", responses=READ_PROBLEMS)
async def show_status(caller: Operator) -> StatusOut:
    """What lies at deposit addresses, by what the rules say of it, and in hot, warm, cold and gas vaults beside their levels."""
    async with caller.read() as session:
        listed = {asset.id: asset for asset in await assets.list_assets(session)}
        totals = await service.totals(session)
        standings = await service.standings(session)
    return StatusOut(
        deposit_addresses=[
            TotalOut(
                verdict=each.verdict,
                addresses=each.addresses,
                amount=show_amount(listed[each.asset], each.amount),
            )
            for each in totals
        ],
        vaults=[
            StandingOut(
                vault_id=show_id("vlt", each.vault.id),
                purpose=each.vault.purpose,
                chain=each.vault.chain,
                posted=show_amount(listed[each.asset], each.posted),
                available=show_amount(listed[each.asset], each.available),
                low=None if each.target is None else str(each.target.low),
                target=None if each.target is None else str(each.target.target),
                high=None if each.target is None else str(each.target.high),
            )
            for each in standings
        ],
    )


@router.get("/holdings", responses=READ_PROBLEMS)
async def list_left(
    caller: Operator,
    asset: Annotated[str, Query(max_length=160, description="Of this asset.")],
    verdict: Annotated[Verdict, Query(description="`dust` lists what is not worth its fee.")] = Verdict.DUST,
    cursor: Cursor = None,
    limit: Limit = LIMIT_DEFAULT,
) -> PageOut[HoldingOut]:
    """Deposit addresses where an asset lies under one verdict."""
    after = parse_id_cursor("treasury", cursor)
    async with caller.read() as session:
        listed = await load_asset(session, asset)
        found = await service.list_holdings(session, listed.id, verdict, after, limit + 1)
    page = page_of(found, limit)
    shown = [
        HoldingOut(
            vault_id=show_id("vlt", each.vault_id),
            verdict=each.verdict,
            detail=each.detail or None,
            amount=show_amount(listed, each.amount),
            since=show_time(each.since),
        )
        for each in page.rows
    ]
    return PageOut(
        data=shown, next_cursor=next_cursor(page, lambda row: show_cursor("treasury", row.vault_id))
    )


def show_sweep_rule(rule: SweepRule) -> SweepRuleOut:
    """A rule as responses carry it."""
    return SweepRuleOut(
        asset=rule.asset.text,
        threshold=str(rule.threshold),
        dust=str(rule.dust),
        max_age_s=rule.max_age_s,
        fee_max=str(rule.fee_max),
        fee_share_max_bp=rule.fee_share_max_bp,
        enabled=rule.enabled,
    )


def show_target(target: Target) -> TargetOut:
    """Levels as responses carry them."""
    return TargetOut(
        purpose=target.purpose,
        asset=target.asset.text,
        low=str(target.low),
        target=str(target.target),
        high=str(target.high),
        enabled=target.enabled,
    )
