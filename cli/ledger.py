"""`custody ledger`: read the books as a bookkeeper does."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from cli import archive, warehouse
from cli.figures import figures_console
from cli.platform import FAILED, run_on_platform
from custody import bootstrap, settings
from custody.assets import service as assets
from custody.assets.model import Asset
from custody.bootstrap import App
from custody.identity import service as identity
from custody.kernel.assetid import AssetId
from custody.kernel.ids import TenantId
from custody.kernel.money import format_units
from custody.ledger import report as reports
from custody.ledger.chart import Report, ReportLine


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("ledger", help="read the books")
    verbs = parser.add_subparsers(dest="verb", required=True)
    report = verbs.add_parser("report", help="the trial balance along the chart of accounts, per asset")
    report.add_argument("--json", action="store_true", help="print JSON instead of a table")
    report.add_argument("--tenant", type=int, help="only the tenant of this number")
    report.set_defaults(run=lambda given: run_on_platform(show_report(given), "ledger"))
    warehouse.add_verb(verbs)
    archive.add_verb(verbs)


async def show_report(given: argparse.Namespace) -> int:
    """0 when every asset's total is zero, 1 when one is not, 2 when the tenant does not exist."""
    app = bootstrap.build(settings.load())
    try:
        tenants = await _tenants(app, given.tenant)
        if not tenants:
            print(f"there is no tenant {given.tenant}", file=sys.stderr)
            return FAILED
        found: dict[TenantId, Report] = {}
        for tenant in tenants:
            async with app.db.read(tenant) as session:
                found[tenant] = await reports.report(session)
        async with app.db.read(None) as session:
            listed = {asset.id: asset for asset in await assets.list_assets(session)}
    finally:
        await app.aclose()
    if given.json:
        print(json.dumps([_in_json(tenant, report) for tenant, report in found.items()], indent=2))
    else:
        print_reports(found, listed, figures_console())
    return 1 if any(total for report in found.values() for total in report.totals.values()) else 0


def print_reports(
    found: Mapping[TenantId, Report], listed: Mapping[AssetId, Asset], console: Console
) -> None:
    """One table per tenant, a section per asset; what lies under a path is indented below it."""
    for tenant, report in found.items():
        table = Table(title=f"Trial balance, tenant {tenant}", title_justify="left")
        table.add_column("Code", no_wrap=True)
        table.add_column("Account", no_wrap=True)
        table.add_column("Asset", overflow="fold")
        for heading in ("Accounts", "Debits", "Credits", "Balance"):
            table.add_column(heading, justify="right", no_wrap=True)
        for asset, total in sorted(report.totals.items()):
            for line in report.lines:
                if line.asset == asset:
                    table.add_row(*_cells(line, listed[asset]))
            shown = format_units(total, listed[asset].decimals)
            table.add_row("", "debits less credits", listed[asset].code, "", "", "", shown)
            table.add_section()
        console.print(table)


def _cells(line: ReportLine, asset: Asset) -> tuple[str, ...]:
    *above, name = line.path.split(":")
    figures = (format_units(each, asset.decimals) for each in (line.debits, line.credits, line.balance))
    return (str(line.code or ""), "  " * len(above) + name, asset.code, str(line.accounts), *figures)


def _in_json(tenant: TenantId, report: Report) -> dict[str, object]:
    """Amounts are strings of atomic units."""
    return {
        "tenant": int(tenant),
        "lines": [
            {
                "path": line.path,
                "code": line.code,
                "asset": line.asset.text,
                "accounts": line.accounts,
                "debits": str(line.debits),
                "credits": str(line.credits),
                "balance": str(line.balance),
            }
            for line in report.lines
        ],
        "totals": {asset.text: str(total) for asset, total in sorted(report.totals.items())},
    }


async def _tenants(app: App, wanted: int | None) -> list[TenantId]:
    """All tenants, or the one of this number if there is one."""
    async with app.db.read(None) as session:
        found = await identity.list_tenants(session)
    return [tenant for tenant in found if wanted in (None, tenant)]
