"""`custody recon`: compare our books with chains and banks, print one table, and end with 1 when anything differs.

Beside it stands what needs no asking: how every vault stood at its chain's final height (`cli.continuous`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from cli.continuous import print_states, read_states, show_states
from cli.figures import figures_console
from cli.platform import run_on_platform
from custody import bootstrap, settings
from custody.assets import service as assets
from custody.assets.model import Asset
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

Listed = Mapping[AssetId, Asset]

_LONGEST_WORD = 16
"""Account names longer than this are shown by their two ends; JSON has them whole."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("recon", help="compare books with chains and banks")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--tenant", type=int, help="only the tenant of this number")
    parser.add_argument("--looks", type=int, default=20, help="how often to look again at what differs")
    parser.add_argument(
        "--nodes", action="store_true", help="ask the nodes also where ledgers showed the balance"
    )
    parser.set_defaults(run=lambda chosen: run_on_platform(reconcile(chosen), "recon"))


async def reconcile(chosen: argparse.Namespace) -> int:
    """0 when all is equal, 1 when there is a break, 2 when the tenant does not exist or a part is away."""
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
            await recon.run(
                app.db,
                tenant,
                app.clients,
                rails,
                clock=app.clock,
                patience=patience,
                ask_nodes=chosen.nodes,
            )
            for tenant in tenants
        ]
        states = {tenant: await read_states(app.db, tenant) for tenant in tenants}
        listed = await _listed(app.db)
    finally:
        await rails.aclose()
        await app.aclose()
    if chosen.json:
        print(json.dumps({**show_all(reports), "continuous": show_states(states)}, indent=2))
    else:
        print_table(reports, listed, figures_console())
        print_states(states, listed, figures_console())
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


def print_table(reports: list[ReconReport], listed: Listed, console: Console) -> None:
    """Books and outside side by side, then the trial balance, then every break with both figures."""
    table = Table(title="Reconciliation", title_justify="left")
    for heading in ("Tenant", "Where", "Asset"):
        table.add_column(heading, overflow="fold")
    for heading in ("Books", "Outside", "Difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Compared at")
    for report in reports:
        for row in report.rows:
            table.add_row(*_cells(report.tenant, row, listed))
        table.add_section()
        for asset, difference in sorted(report.trial_balance.items()):
            shown = format_units(difference, listed[asset].decimals)
            where = f"trial balance {asset.chain}"
            table.add_row(str(report.tenant), where, listed[asset].code, "", "", shown, "")
        table.add_section()
    console.print(table)
    breaks = [(report.tenant, found) for report in reports for found in report.breaks]
    for tenant, found in breaks:
        console.print(_sentence(tenant, found, listed), markup=False, highlight=False, soft_wrap=True)
    console.print(f"{len(breaks)} breaks" if breaks else "no breaks")


def _cells(tenant: TenantId, row: ReconRow, listed: Listed) -> tuple[str, ...]:
    asset = listed[row.holding.asset]
    outside = "?" if row.outside is None else format_units(row.outside, asset.decimals)
    difference = "?" if row.difference is None else format_units(row.difference, asset.decimals)
    where = " ".join(_short(word) for word in row.holding.owner.split(" "))
    books = format_units(row.books, asset.decimals)
    if row.opening:
        books += f" + {format_units(row.opening, asset.decimals)} before"
    return (str(tenant), where, asset.code, books, outside, difference, row.at)


def _sentence(tenant: TenantId, found: ReconBreak, listed: Listed) -> str:
    asset = listed.get(found.asset)
    # A halted chain is named by its native asset, listed or not; its figures are zero.
    places = 0 if asset is None else asset.decimals
    outside = "unknown" if found.outside is None else format_units(found.outside, places)
    return (
        f"BREAK {found.kind.value}: tenant {tenant}, {found.owner}, {found.asset.text}: "
        f"books {format_units(found.books, places)}, outside {outside} ({found.detail})"
    )


def _short(word: str) -> str:
    return word if len(word) <= _LONGEST_WORD else f"{word[:8]}…{word[-6:]}"


async def _listed(db: Database) -> Listed:
    async with db.read(None) as session:
        return {asset.id: asset for asset in await assets.list_assets(session)}


def _of(tenant: TenantId, shown: dict[str, object]) -> dict[str, object]:
    return {"tenant": int(tenant), **shown}
