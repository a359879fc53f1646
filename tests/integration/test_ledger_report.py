"""The chart of accounts as the database has it, and the report over real books."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from custody.assets import service as assets
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.chart import BY_KIND, CHART
from custody.ledger.errors import InsufficientFunds
from custody.ledger.model import AccountKey, AccountKind, Transfer, TransferCode
from custody.ledger.report import report
from tests.commands import custody

XLM = parse_asset_id("stellar:devnet/native")
EUR = parse_asset_id("fiat/EUR")
VAULT, ANNA, BERT = new_uuid(), new_uuid(), new_uuid()
ROOT = Path(__file__).parent.parent.parent
CONFIGURATION = """
environment = "development"
intent_valid_s = 30
chains = []
database = {{ url = "{url}" }}
redis = {{ url = "redis://127.0.0.1:1/0" }}
signer = {{ socket = "/nonexistent/signer.sock" }}
api = {{ port = 18080 }}
"""


@pytest.fixture(autouse=True)
async def listed(database: Database) -> None:
    async with database.unit_of_work(None) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await assets.register(uow, EUR, "EUR", 2)


async def test_the_database_has_the_chart_that_the_code_has(database: Database) -> None:
    async with database.read(None) as session:
        rows = await session.conn.execute(
            text("SELECT kind, code, path, normal_side, guard, owned FROM ledger_chart ORDER BY code")
        )
        found = [tuple(row) for row in rows]
    assert found == [
        (line.kind.value, line.code, line.path, line.normal_side.value, line.guard.value, line.owned)
        for line in CHART
    ]


@pytest.mark.parametrize("kind", list(AccountKind))
async def test_an_account_is_opened_as_its_line_says(
    database: Database, tenant: TenantId, kind: AccountKind
) -> None:
    line = BY_KIND[kind]
    key = AccountKey(kind=kind, owner=new_uuid() if line.owned else None, asset=XLM)
    async with database.unit_of_work(tenant) as uow:
        opened = await service.open_account(uow, key)
    assert (opened.normal_side, opened.guard) == (line.normal_side, line.guard)


@pytest.mark.parametrize(
    ("kind", "overdrawn"),
    [
        (AccountKind.CLEARING, True),
        (AccountKind.FEE_INCOME, True),
        (AccountKind.IN_TRANSIT, True),
        (AccountKind.ISSUANCE, False),
    ],
)
async def test_which_of_the_tenants_own_accounts_may_be_below_zero(
    database: Database, tenant: TenantId, kind: AccountKind, *, overdrawn: bool
) -> None:
    own = AccountKey(kind=kind, owner=None, asset=XLM)
    equity = AccountKey(kind=AccountKind.EQUITY, owner=None, asset=XLM)
    debit, credit = (equity, own) if kind is AccountKind.IN_TRANSIT else (own, equity)
    taken = Transfer(
        id=new_uuid(),
        debit=debit,
        credit=credit,
        amount=Amount(XLM, 5),
        code=TransferCode.EXCHANGE,
        reference=new_uuid(),
    )
    async with database.unit_of_work(tenant) as uow:
        for key in (own, equity):
            await service.open_account(uow, key)
    if overdrawn:
        async with database.unit_of_work(tenant) as uow:
            await service.post(uow, taken)
            assert (await service.balance(uow, own)).posted == -5
    else:
        async with database.unit_of_work(tenant) as uow:
            with pytest.raises(InsufficientFunds):
                await service.post(uow, taken)


async def book(database: Database, tenant: TenantId) -> None:
    """A deposit, a transfer with a fee, and an exchange."""
    async with database.unit_of_work(tenant) as uow:
        await service.post(
            uow,
            *postings.deposit_credited(
                deposit_id=new_uuid(), vault_id=VAULT, wallet_id=ANNA, amount=Amount(XLM, 1000)
            ),
            *postings.wallet_transfer(
                transfer_id=new_uuid(),
                source_wallet_id=ANNA,
                destination_wallet_id=BERT,
                amount=Amount(XLM, 100),
                fee=Amount(XLM, 7),
            ),
            *postings.exchanged(
                exchange_id=new_uuid(),
                source_wallet_id=ANNA,
                destination_wallet_id=BERT,
                sold=Amount(XLM, 200),
                bought=Amount(EUR, 30),
            ),
        )


BOOKED = [
    ("fiat/EUR", "liabilities", 30),
    ("fiat/EUR", "liabilities:wallets", 30),
    ("fiat/EUR", "equity", -30),
    ("fiat/EUR", "equity:clearing", -30),
    ("stellar:devnet/native", "assets", 1000),
    ("stellar:devnet/native", "assets:vaults", 1000),
    ("stellar:devnet/native", "liabilities", 793),
    ("stellar:devnet/native", "liabilities:wallets", 793),
    ("stellar:devnet/native", "equity", 200),
    ("stellar:devnet/native", "equity:clearing", 200),
    ("stellar:devnet/native", "income", 7),
    ("stellar:devnet/native", "income:fees", 7),
]


async def test_the_report_adds_up_to_zero_in_each_asset(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    await book(database, tenant)
    async with database.read(tenant) as session:
        found = await report(session)
    assert [(line.asset.text, line.path, line.balance) for line in found.lines] == BOOKED
    assert found.totals == {EUR: 0, XLM: 0}
    async with database.read(other_tenant) as session:
        assert (await report(session)).lines == ()


def write_to(out: int, configuration: Path) -> subprocess.CompletedProcess[str]:
    """The report goes there."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "ledger", "report"],
        cwd=ROOT,
        env={"PATH": os.defpath, "CUSTODY_CONFIG": str(configuration)},
        stdout=out,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


async def test_the_command_prints_the_report(
    database: Database, tenant: TenantId, app_dsn: str, tmp_path: Path
) -> None:
    await book(database, tenant)
    configuration = tmp_path / "custody.toml"
    configuration.write_text(CONFIGURATION.format(url=app_dsn))
    words = ("ledger", "report")
    told = custody(configuration, *words, "--json")
    assert (told.returncode, told.stderr) == (0, "")
    (only,) = json.loads(told.stdout)
    assert only["tenant"] == tenant
    assert [(line["asset"], line["path"], int(line["balance"])) for line in only["lines"]] == BOOKED
    assert set(only["totals"].values()) == {"0"}
    shown = custody(configuration, *words)
    assert shown.returncode == 0
    assert "0.0000793" in shown.stdout
    assert "…" not in shown.stdout, "a figure is cut where the output has no width"
    assert custody(configuration, *words, "--tenant", "999").returncode == 2
    gone, unread = os.pipe()
    os.close(gone)
    cut = await asyncio.to_thread(write_to, unread, configuration)
    os.close(unread)
    assert (cut.returncode, cut.stderr) == (141, ""), "a reader that has seen enough is no error"
