"""How vaults stand by the comparison that ingestion makes at every final height, for `custody recon`: a table, or JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from custody.assets.model import Asset
from custody.db.session import Database
from custody.holdings.model import HoldingBreak
from custody.kernel.assetid import AssetId
from custody.kernel.ids import TenantId, VaultId, show_id
from custody.kernel.money import format_units
from custody.recon import continuous
from custody.recon.continuous import ContinuousState

States = Mapping[TenantId, Sequence[ContinuousState]]

_PAGE = 200


async def read_states(db: Database, tenant: TenantId) -> list[ContinuousState]:
    """Every vault of a tenant but deposit addresses, and those of them that are broken."""
    found: list[ContinuousState] = []
    after: tuple[VaultId, AssetId] | None = None
    while True:
        async with db.read(tenant) as session:
            page = await continuous.list_states(session, "standing", after=after, limit=_PAGE)
        found += page
        if len(page) < _PAGE:
            return found
        after = (page[-1].check.vault_id, page[-1].check.asset)


def show_states(states: States) -> list[dict[str, object]]:
    """All of them in JSON values."""
    return [_show(tenant, each) for tenant, found in states.items() for each in found]


def print_states(states: States, listed: Mapping[AssetId, Asset], console: Console) -> None:
    """One line per vault and asset, then every open break with what differs first."""
    if not any(states.values()):
        return
    table = Table(title="At every final height", title_justify="left")
    for heading in ("Tenant", "Vault", "Asset"):
        table.add_column(heading, overflow="fold")
    for heading in ("Books", "Chain", "Difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("Height", "Payments"):
        table.add_column(heading)
    for tenant, found in states.items():
        for each in found:
            table.add_row(*_cells(tenant, each, listed[each.check.asset]))
    console.print(table)
    for tenant, found in states.items():
        for each in found:
            if each.check.found is not None:
                sentence = _sentence(tenant, each, each.check.found, listed[each.check.asset])
                console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _cells(tenant: TenantId, each: ContinuousState, asset: Asset) -> tuple[str, ...]:
    check, last = each.check, each.check.last
    books = chain = difference = "?"
    if last is not None:
        books = format_units(last.books + last.opening, asset.decimals)
        chain = format_units(last.chain, asset.decimals)
        difference = format_units(last.difference, asset.decimals)
    where = f"{check.chain} {check.purpose} {show_id('vlt', check.vault_id)[:12]}…"
    height = "?" if each.height is None else str(each.height)
    payments = "wait" if each.stops_payments else "go on"
    return (str(tenant), where, asset.code, books, chain, difference, height, payments)


def _sentence(tenant: TenantId, each: ContinuousState, found: HoldingBreak, asset: Asset) -> str:
    first = found.first
    if first is None:
        named = f"no single movement explains it; look from block {found.first_height}"
    else:
        named = (
            f"first {first.movement} in {first.tx_hash}, block {found.first_height}: "
            f"chain {format_units(first.chain, asset.decimals)}, books {format_units(first.books, asset.decimals)}"
        )
    return (
        f"OPEN {show_id('brk', found.id)}: tenant {tenant}, {show_id('vlt', each.check.vault_id)}, {each.check.asset.text}: "
        f"{format_units(found.difference, asset.decimals)} since height {found.opened.height}; {named}"
    )


def _show(tenant: TenantId, each: ContinuousState) -> dict[str, object]:
    check, last, found = each.check, each.check.last, each.check.found
    first = None if found is None else found.first
    return {
        "tenant": int(tenant),
        "vault_id": show_id("vlt", check.vault_id),
        "chain": str(check.chain),
        "asset": check.asset.text,
        "purpose": check.purpose,
        "height": each.height,
        "books": None if last is None else str(last.books),
        "opening": None if last is None else str(last.opening),
        "on_chain": None if last is None else str(last.chain),
        "difference": None if last is None else str(last.difference),
        "break_id": None if found is None else show_id("brk", found.id),
        "opened_height": None if found is None else found.opened.height,
        "first_height": None if found is None else found.first_height,
        "first_tx": None if first is None else first.tx_hash,
        "first_movement": None if first is None else first.movement,
        "first_on_chain": None if first is None else str(first.chain),
        "first_in_books": None if first is None else str(first.books),
        "stops_payments": each.stops_payments,
    }
