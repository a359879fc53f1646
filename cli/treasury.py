"""`custody treasury`: sweeps of deposit addresses, levels of vaults, and what lies where. For operators."""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable
from uuid import UUID

from cli.cases import operator_of
from cli.one_tenant import run_for_tenant
from cli.platform import run_on_platform
from custody.bootstrap import App
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, show_id
from custody.treasury import execution, service
from custody.treasury.model import LEVELLED, SweepRule, Target, Verdict
from custody.withdrawals.ports import Means

Step = Callable[[App, TenantId, argparse.Namespace], Awaitable[int]]
_PAGE = 500


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser(
        "treasury", help="sweeps, gas, hot and cold: rules, levels, and what lies where"
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    _verb(verbs, "status", "what lies at deposit addresses and in vaults, as JSON lines", _status)
    left = _verb(verbs, "left", "addresses where an asset lies under one verdict, as JSON lines", _left)
    left.add_argument("--asset", required=True)
    left.add_argument("--verdict", choices=[each.value for each in Verdict], default=Verdict.DUST.value)
    rules = _verb(verbs, "rules", "list the rules of sweeping; with --asset set one, as a whole", _rules)
    rules.add_argument("--asset", help="the asset whose rule is set")
    rules.add_argument("--threshold", type=_atomic, help="atomic units from which on it is swept")
    rules.add_argument("--fee-max", type=_atomic, help="the most that a sweep may cost, in wei")
    rules.add_argument("--dust", type=_atomic, default=0, help="atomic units below which it is never swept")
    rules.add_argument("--max-age-s", type=int, help="less than the threshold is swept after so long")
    rules.add_argument("--fee-share-max-bp", type=int, help="of ether: hundredths of a percent of the amount")
    rules.add_argument("--off", action="store_true", help="leave it where it is")
    targets = _verb(
        verbs, "targets", "list the levels of vaults; with --purpose and --asset set them", _targets
    )
    targets.add_argument("--purpose", choices=LEVELLED)
    targets.add_argument("--asset")
    for level in ("low", "target", "high"):
        targets.add_argument(f"--{level}", type=_atomic, help="atomic units")
    targets.add_argument("--off", action="store_true", help="look no more")
    _verb(verbs, "sweep", "one round now, as the worker does by itself; prints what it asked for", _sweep)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, words: str, step: Step
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=words)
    verb.add_argument("--tenant", type=int, required=True, help="the tenant's number")
    verb.set_defaults(step=step, run=lambda chosen: run_on_platform(_run(chosen), "treasury"))
    return verb


async def _run(chosen: argparse.Namespace) -> int:
    async def step(app: App, tenant: TenantId) -> int:
        code: int = await chosen.step(app, tenant, chosen)
        return code

    return await run_for_tenant(chosen.tenant, step)


async def _status(app: App, tenant: TenantId, _: argparse.Namespace) -> int:
    async with app.db.read(tenant) as session:
        totals = await service.totals(session)
        standings = await service.standings(session)
    for each in totals:
        _tell(
            asset=each.asset.text,
            verdict=each.verdict.value,
            addresses=each.addresses,
            amount=str(each.amount),
        )
    for one in standings:
        levels = {} if one.target is None else _levels(one.target)
        _tell(
            asset=one.asset.text,
            vault=show_id("vlt", one.vault.id),
            purpose=one.vault.purpose,
            posted=str(one.posted),
            available=str(one.available),
            **levels,
        )
    return 0


async def _left(app: App, tenant: TenantId, chosen: argparse.Namespace) -> int:
    asset, verdict, after = parse_asset_id(chosen.asset), Verdict(chosen.verdict), UUID(int=0)
    while True:
        async with app.db.read(tenant) as session:
            found = await service.list_holdings(session, asset, verdict, after, _PAGE)
        for each in found:
            _tell(
                vault=show_id("vlt", each.vault_id),
                amount=str(each.amount),
                since=each.since.isoformat(),
                detail=each.detail,
            )
        if len(found) < _PAGE:
            return 0
        after = found[-1].vault_id


async def _rules(app: App, tenant: TenantId, chosen: argparse.Namespace) -> int:
    if chosen.asset is None:
        async with app.db.read(tenant) as session:
            found = await service.list_rules(session)
    else:
        rule = SweepRule(
            asset=parse_asset_id(chosen.asset),
            threshold=_given(chosen.threshold, "--threshold"),
            dust=chosen.dust,
            max_age_s=chosen.max_age_s,
            fee_max=_given(chosen.fee_max, "--fee-max"),
            fee_share_max_bp=chosen.fee_share_max_bp,
            enabled=not chosen.off,
        )
        async with app.db.unit_of_work(tenant) as uow:
            found = [await service.set_rule(uow, operator_of(tenant).subject, rule)]
    for each in found:
        _tell(
            asset=each.asset.text,
            threshold=str(each.threshold),
            dust=str(each.dust),
            max_age_s=each.max_age_s,
            fee_max=str(each.fee_max),
            fee_share_max_bp=each.fee_share_max_bp,
            enabled=each.enabled,
        )
    return 0


async def _targets(app: App, tenant: TenantId, chosen: argparse.Namespace) -> int:
    if chosen.purpose is None:
        async with app.db.read(tenant) as session:
            found = await service.list_targets(session)
    else:
        target = Target(
            purpose=chosen.purpose,
            asset=parse_asset_id(chosen.asset or ""),
            low=_given(chosen.low, "--low"),
            target=_given(chosen.target, "--target"),
            high=_given(chosen.high, "--high"),
            enabled=not chosen.off,
        )
        async with app.db.unit_of_work(tenant) as uow:
            found = [await service.set_target(uow, operator_of(tenant).subject, target)]
    for each in found:
        _tell(purpose=each.purpose, asset=each.asset.text, **_levels(each), enabled=each.enabled)
    return 0


async def _sweep(app: App, tenant: TenantId, _: argparse.Namespace) -> int:
    means = Means(db=app.db, signer=app.signer, clients=app.clients, settings=app.settings, clock=app.clock)
    for asked in await execution.tend(means, app.signer, tenant):
        _tell(asked=show_id("wdr", asked))
    return 0


def _levels(target: Target) -> dict[str, str]:
    return {"low": str(target.low), "target": str(target.target), "high": str(target.high)}


def _tell(**fields: object) -> None:
    print(json.dumps(fields))


def _given(value: int | None, option: str) -> int:
    if value is None:
        raise SystemExit(f"custody treasury: {option} is needed")
    return value


def _atomic(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError("atomic units: digits only")
    return int(text)
