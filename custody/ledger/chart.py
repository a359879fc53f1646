"""The chart of accounts: for each kind of account its code, its place in the report, its side and its guard. Pure.

The database holds the same lines in `ledger_chart`, from which `ledger_open` takes side and guard; a test compares the two. Codes
follow the usual order: 1 assets, 2 liabilities, 3 equity, 4 income, 5 expenses. A path's parts are the report's levels.

Guards follow the class. An asset promises only what it holds, by holds; what chains and banks say is always booked, since
refusing a fact would make the books wrong, and a shortage is reconciliation's to find. A liability is never below zero, holds
included: nobody spends what we do not owe them. Equity, income and expenses have no limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from custody.kernel.assetid import AssetId
from custody.ledger.model import AccountKind, Guard, Side


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartLine:
    """One kind of account."""

    kind: AccountKind
    """Which."""
    code: int
    """Number in the chart; the first digit is the class."""
    path: str
    """Place in the report: class first, parts joined by colons."""
    normal_side: Side
    """Where its balances grow."""
    guard: Guard
    """When its accounts refuse to fall below their floor."""
    owned: bool
    """Whether each account has an owner (a wallet, vault or bank account); else the tenant has one per asset."""


def _line(code: int, path: str, kind: AccountKind, guard: Guard, *, owned: bool = False) -> ChartLine:
    side = Side.DEBIT if path.partition(":")[0] in ("assets", "expenses") else Side.CREDIT
    return ChartLine(kind=kind, code=code, path=path, normal_side=side, guard=guard, owned=owned)


CHART = (
    _line(1100, "assets:vaults", AccountKind.VAULT, Guard.HOLDS, owned=True),
    _line(1200, "assets:banks", AccountKind.BANK, Guard.HOLDS, owned=True),
    # Still ours while it travels. The arrival may be seen before the departure: below zero for a while, and booked all the same.
    _line(1300, "assets:in_transit", AccountKind.IN_TRANSIT, Guard.HOLDS),
    _line(2100, "liabilities:wallets", AccountKind.WALLET, Guard.ALWAYS, owned=True),
    # Owed to somebody, although we do not know yet to whom.
    _line(2200, "liabilities:suspense", AccountKind.SUSPENSE, Guard.ALWAYS),
    # Owed to a token's holders, wherever they hold it. More cannot be taken back than was issued.
    _line(2300, "liabilities:issuance", AccountKind.ISSUANCE, Guard.ALWAYS),
    _line(3100, "equity:capital", AccountKind.EQUITY, Guard.NEVER),
    # Risk and gain of an open position are ours alone, hence equity; a position has either sign.
    _line(3200, "equity:clearing", AccountKind.CLEARING, Guard.NEVER),
    # A fee can be given back also after the income was taken out.
    _line(4100, "income:fees", AccountKind.FEE_INCOME, Guard.NEVER),
    _line(5100, "expenses:network_fees", AccountKind.NETWORK_FEES, Guard.NEVER),
)
"""Every kind, by code."""

BY_KIND = {line.kind: line for line in CHART}
"""The same, by kind."""


def _upwards(path: str) -> list[str]:
    """A path and all above it, the class first."""
    parts = path.split(":")
    return [":".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


PATHS = {path: None for line in CHART for path in _upwards(line.path)} | {
    line.path: line.code for line in CHART
}
"""Every path of the report, each before what lies under it, with its code; those that only sum up have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSum:
    """What all accounts of one kind and asset have booked."""

    kind: AccountKind
    """Which kind."""
    asset: AssetId
    """Of what."""
    accounts: int
    """How many accounts."""
    debits: int
    """Atomic units debited."""
    credits: int
    """Atomic units credited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportLine:
    """One path of the report in one asset, with all that lies under it."""

    path: str
    """A class such as `assets`, or a path below one."""
    code: int | None
    """Number in the chart; None for a line that only sums up others."""
    asset: AssetId
    """Of what."""
    accounts: int
    """How many accounts lie under it."""
    debits: int
    """Atomic units debited."""
    credits: int
    """Atomic units credited."""

    @property
    def balance(self) -> int:
        """Atomic units, positive on the normal side of its class."""
        difference = self.debits - self.credits
        return difference if self.path.partition(":")[0] in ("assets", "expenses") else -difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The trial balance as a tree: assets, liabilities, equity, income and expenses, in each asset that was ever used."""

    lines: tuple[ReportLine, ...]
    """By asset, then in the order of the chart, each path before what lies under it."""
    totals: dict[AssetId, int]
    """Debits minus credits of each asset over the whole chart. Anything but zero means that the books are broken."""


def build_report(sums: Iterable[KindSum]) -> Report:
    """Roll the sums of kinds up to every path above them."""
    below: dict[tuple[AssetId, str], list[KindSum]] = defaultdict(list)
    totals: dict[AssetId, int] = defaultdict(int)
    for found in sums:
        totals[found.asset] += found.debits - found.credits
        for path in _upwards(BY_KIND[found.kind].path):
            below[found.asset, path].append(found)
    places = {path: place for place, path in enumerate(PATHS)}
    lines = tuple(
        ReportLine(
            path=path,
            code=PATHS[path],
            asset=asset,
            accounts=sum(found.accounts for found in under),
            debits=sum(found.debits for found in under),
            credits=sum(found.credits for found in under),
        )
        for (asset, path), under in sorted(below.items(), key=lambda item: (item[0][0], places[item[0][1]]))
    )
    return Report(lines=lines, totals=dict(totals))
