"""`custody recon`: compare our books with chains and banks, print one table, and end with 1 when anything differs."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from custody import bootstrap, settings
from custody.assets import service as assets
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.assetid import AssetId
from custody.kernel.ids import TenantId
from custody.kernel.money import format_units
from custody.recon import service as recon
from custody.recon.model import ReconBreak, ReconReport, ReconRow
from custody.recon.service import Patience
from custody.recon.show import show_break, show_row
from rails.registry import build_rails

Decimals = Mapping[AssetId, int]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("recon", help="compare books with chains and banks")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--tenant", type=int, help="only the tenant of this number")
    parser.add_argument("--looks", type=int, default=20, help="how often to look again at what differs")
    parser.set_defaults(run=lambda chosen: asyncio.run(reconcile(chosen)))


async def reconcile(chosen: argparse.Namespace) -> int:
    """0 when all is equal, 1 when there is a break, 2 when the tenant does not exist."""
    configured = settings.load()
    app = bootstrap.build(configured)
    rails = build_rails(configured.rails)
    try:
        async with app.db.read(None) as session:
            tenants = await identity.list_tenants(session)
        if chosen.tenant is not None:
            tenants = [tenant for tenant in tenants if tenant == chosen.tenant]
            if not tenants:
                print(f"there is no tenant {chosen.tenant}", file=sys.stderr)
                return 2
        patience = Patience(looks=max(chosen.looks, 1))
        reports = [
            await recon.run(app.db, tenant, app.clients, rails, clock=app.clock, patience=patience)
            for tenant in tenants
        ]
        decimals = await _decimals(app.db)
    finally:
        await rails.aclose()
        await app.aclose()
    if chosen.json:
        print(json.dumps(show_all(reports), indent=2))
    else:
        print_table(reports, decimals, Console())
    return 1 if any(report.breaks for report in reports) else 0


def show_all(reports: list[ReconReport]) -> dict[str, object]:
    """All tenants in one JSON object: every row and break names its tenant, the trial balance adds up over tenants."""
    totals: dict[str, int] = {}
    for report in reports:
        for asset, difference in report.trial_balance.items():
            totals[asset.text] = totals.get(asset.text, 0) + difference
    return {
        "breaks": [_of(report.tenant, show_break(found)) for report in reports for found in report.breaks],
        "rows": [_of(report.tenant, show_row(row)) for report in reports for row in report.rows],
        "trial_balance": {asset: str(total) for asset, total in sorted(totals.items())},
    }


def print_table(reports: list[ReconReport], decimals: Decimals, console: Console) -> None:
    """Books and outside side by side, then the trial balance, then every break with both figures."""
    table = Table(title="Reconciliation", title_justify="left")
    for heading in ("Tenant", "Where", "Asset"):
        table.add_column(heading, overflow="fold")
    for heading in ("Books", "Outside", "Difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Compared at")
    breaks = 0
    for report in reports:
        for row in report.rows:
            table.add_row(*_cells(report.tenant, row, decimals))
        for asset, difference in sorted(report.trial_balance.items()):
            shown = format_units(difference, decimals[asset])
            table.add_row(str(report.tenant), "trial balance", asset.text, "", "", shown, "")
        breaks += len(report.breaks)
    console.print(table)
    for report in reports:
        for found in report.breaks:
            console.print(_sentence(report.tenant, found, decimals), markup=False, highlight=False)
    console.print("no breaks" if breaks == 0 else f"{breaks} breaks")


def _cells(tenant: TenantId, row: ReconRow, decimals: Decimals) -> tuple[str, ...]:
    places = decimals[row.holding.asset]
    outside = "?" if row.outside is None else format_units(row.outside, places)
    difference = "?" if row.difference is None else format_units(row.difference, places)
    return (
        str(tenant),
        row.holding.owner,
        row.holding.asset.text,
        format_units(row.books, places),
        outside,
        difference,
        row.at,
    )


def _sentence(tenant: TenantId, found: ReconBreak, decimals: Decimals) -> str:
    places = decimals[found.asset]
    outside = "unknown" if found.outside is None else format_units(found.outside, places)
    return (
        f"BREAK {found.kind.value}: tenant {tenant}, {found.owner}, {found.asset.text}: "
        f"books {format_units(found.books, places)}, outside {outside} ({found.detail})"
    )


async def _decimals(db: Database) -> Decimals:
    async with db.read(None) as session:
        return {asset.id: asset.decimals for asset in await assets.list_assets(session)}


def _of(tenant: TenantId, shown: dict[str, object]) -> dict[str, object]:
    return {"tenant": int(tenant), **shown}
