"""The chart of accounts and the report that is rolled up along it."""

from __future__ import annotations

import pytest

from custody.kernel.assetid import parse_asset_id
from custody.ledger.chart import BY_KIND, CHART, PATHS, KindSum, build_report
from custody.ledger.model import AccountKind, Guard, Side

XLM, EUR = parse_asset_id("stellar:devnet/native"), parse_asset_id("fiat/EUR")
CLASSES = {1: "assets", 2: "liabilities", 3: "equity", 4: "income", 5: "expenses"}


def test_every_kind_has_one_line_under_a_code_and_a_path_of_its_own() -> None:
    assert set(BY_KIND) == set(AccountKind)
    assert len(CHART) == len({line.code for line in CHART}) == len({line.path for line in CHART})
    assert [line.code for line in CHART] == sorted(line.code for line in CHART)


@pytest.mark.parametrize("line", CHART, ids=lambda line: line.path)
def test_the_class_decides_code_side_and_guard(line: object) -> None:
    kind = next(each for each in CHART if each is line)
    of_class = kind.path.partition(":")[0]
    assert CLASSES[kind.code // 1000] == of_class
    assert kind.normal_side is (Side.DEBIT if of_class in ("assets", "expenses") else Side.CREDIT)
    guards = {"assets": Guard.HOLDS, "liabilities": Guard.ALWAYS}
    assert kind.guard is guards.get(of_class, Guard.NEVER)


def test_a_path_stands_before_what_lies_under_it() -> None:
    seen: set[str] = set()
    for path in PATHS:
        above = path.rpartition(":")[0]
        assert not above or above in seen
        seen.add(path)


def of(kind: AccountKind, debits: int, credits_: int, asset=XLM) -> KindSum:
    return KindSum(kind=kind, asset=asset, accounts=1, debits=debits, credits=credits_)


def test_parents_add_up_what_lies_under_them() -> None:
    report = build_report(
        [
            of(AccountKind.WALLET, 30, 100),
            of(AccountKind.FEE_INCOME, 0, 2),
            of(AccountKind.VAULT, 100, 5),
            of(AccountKind.SUSPENSE, 0, 3),
            of(AccountKind.CLEARING, 20, 45),
            of(AccountKind.NETWORK_FEES, 5, 0),
        ]
    )
    assert [(line.path, line.code, line.balance) for line in report.lines] == [
        ("assets", None, 95),
        ("assets:vaults", 1100, 95),
        ("liabilities", None, 73),
        ("liabilities:wallets", 2100, 70),
        ("liabilities:suspense", 2200, 3),
        ("equity", None, 25),
        ("equity:clearing", 3200, 25),
        ("income", None, 2),
        ("income:fees", 4100, 2),
        ("expenses", None, 5),
        ("expenses:network_fees", 5100, 5),
    ]
    liabilities = report.lines[2]
    assert (liabilities.accounts, liabilities.debits, liabilities.credits) == (2, 30, 103)
    assert report.totals == {XLM: 0}


def test_assets_are_never_added_to_each_other() -> None:
    report = build_report([of(AccountKind.BANK, 7, 0, EUR), of(AccountKind.VAULT, 9, 0)])
    assert [(line.asset, line.path, line.balance) for line in report.lines] == [
        (EUR, "assets", 7),
        (EUR, "assets:banks", 7),
        (XLM, "assets", 9),
        (XLM, "assets:vaults", 9),
    ]
    assert report.totals == {EUR: 7, XLM: 9}
